"""`--n-first`: prompts are sampled further only while no pair is clear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import FAKES, Runner, rows, some_prompts

from prefgen.completion import CompletionRequest
from prefgen.errors import RequestRefusedError
from prefgen.models.scripted import ScriptedModel, open_scripted


def by_prompt(run: Path, column: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows(run / "candidates.parquet"):
        found[row["prompt_id"]].append(row[column])
    return found


def pairs(run: Path) -> dict[str, dict[str, Any]]:
    return {
        row["prompt_id"]: row for split in ("train", "test") for row in rows(run / f"dpo/{split}.parquet")
    }


@pytest.fixture
def generated(prefgen: Runner, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A run of 12 prompts with a ledger of its own; its manifest."""
    prompts = some_prompts(tmp_path / "p.jsonl", 12)

    def run(name: str, *more: object) -> dict[str, Any]:
        out, ledger = tmp_path / name, tmp_path / f"{name}.sqlite"
        command = ("generate", prompts, *FAKES, "--out", out, "--ledger", ledger, "--planted", 0, "--json")
        done = prefgen(*command, *more)
        assert done.code == 0, done.err
        return done.result

    return run


def test_fewer_calls_and_the_same_candidates_as_far_as_they_go(
    generated: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    whole = generated("whole", "--n", 6, "--min-confidence", 0.97)
    few = generated("few", "--n", 6, "--n-first", 2, "--min-confidence", 0.97)
    assert few["usage"]["requests"] < whole["usage"]["requests"]
    all_ids, ids = (by_prompt(tmp_path / name, "candidate_id") for name in ("whole", "few"))
    sizes = {len(drawn) for drawn in ids.values()}
    assert sizes == {2, 4, 6}, "the test needs prompts of every kind"
    for prompt, drawn in ids.items():
        assert all_ids[prompt][: len(drawn)] == drawn
    kept, whole_kept = pairs(tmp_path / "few"), pairs(tmp_path / "whole")
    for prompt, drawn in ids.items():
        # Sampling went on to the end exactly where nothing was clear before; then all is as in the whole run.
        if len(drawn) == 6:
            assert kept.get(prompt) == whole_kept.get(prompt)
        else:
            assert kept[prompt]["confidence"] >= 0.97
    drawn_in_all = sum(map(len, ids.values()))
    spared = {"candidates": 72 - drawn_in_all}
    spared["comparisons"] = sum(15 - len(d) * (len(d) - 1) // 2 for d in ids.values())
    assert few["counts"]["spared"] == spared
    assert whole["counts"]["spared"] == {}


def test_the_whole_run_after_it_pays_only_for_what_was_spared(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 6)
    base = ("generate", prompts, *FAKES, "--n", 6, "--planted", 0, "--json")
    few = prefgen(*base, "--n-first", 3, "--out", tmp_path / "few").result
    whole = prefgen(*base, "--out", tmp_path / "whole").result
    own = prefgen(*base, "--out", tmp_path / "own", "--ledger", tmp_path / "own.sqlite").result
    for name in ("candidates", "judgments", "scores"):
        assert rows(tmp_path / f"whole/{name}.parquet") == rows(tmp_path / f"own/{name}.parquet")
    judged = own["counts"]["judgments"] - few["counts"]["judgments"]
    assert whole["usage"]["by_role"]["judge"]["requests"] == judged


def test_a_policy_that_fails_later_leaves_what_was_drawn(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = open_scripted("writer")

    def answer(request: CompletionRequest, sample: int) -> Any:
        return RequestRefusedError("400") if sample >= 2 else fake._answer(request, sample)

    models = {"writer": ScriptedModel(answer, "scripted/writer"), "judge": open_scripted("judge")}
    monkeypatch.setattr("prefgen.models.scripted.open_scripted", lambda name, options=None: models[name])
    prompts = some_prompts(tmp_path / "p.jsonl", 8)
    done = prefgen(
        "generate", prompts, *FAKES, "--n", 4, "--n-first", 2, "--min-confidence", 0.97, "--planted", 0,
        "--out", tmp_path / "run", "--max-failure-share", 0.5, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    failed = done.result["counts"]["failures"]["sampling_api_error"]
    assert 0 < failed < 8
    assert done.result["counts"]["pairs"] == 8 - failed
    assert done.result["counts"]["candidates"] == 16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--n", 6, "--n-first", 6), "less than --n"),
        (("--n", 6, "--n-first", 1), "enough for a pair"),
        (("--n", 6, "--n-first", 2, "--judging", "listwise"), "without --judging listwise"),
        (("--n", 6, "--n-first", 2, "--meetings", "ring"), "without --meetings ring"),
        (("--n", 6, "--n-first", 2, "--strategy", "best-2sigma"), "wants all candidates"),
        (("--n", 6, "--n-first", 2, "--kto-labels", "threshold"), "wants all candidates"),
        (("--n", 6, "--n-first", 2, "--strategy", "all", "--max-pairs", 3), "wants all candidates"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: tuple[object, ...], words: str, prefgen: Runner, tmp_path: Path
) -> None:
    done = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl"), *FAKES, *options, "--out", tmp_path / "run"
    )
    assert done.code == 2
    assert words in done.err
    assert not (tmp_path / "run").exists()

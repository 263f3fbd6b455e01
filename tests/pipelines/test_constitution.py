"""constitution show and diff: what changed, what is asked, and which pairs of a run flip; by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from asked import Fakes, constitution, fakes, generated
from running import FAKES, Ran, Runner, files, rows, some_prompts

__all__ = ["fakes"]


def sure(margin: float) -> Any:
    return pytest.approx(1 / (1 + math.exp(-margin)))


@pytest.fixture
def run(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> Path:
    """Pairs of each prompt: alpha over beta .5, alpha over gamma 2.5, beta over gamma 2."""
    return generated(prefgen, tmp_path)


def diff(prefgen: Runner, folder: Path, b: dict[str, tuple[str, float]], *more: object) -> Ran:
    other = constitution(folder / "b.yaml", b)
    return prefgen("constitution", "diff", folder / "a.yaml", other, *more)


def moved(found: dict[str, Any], run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of the first prompt, by the first words of chosen and rejected."""
    words = {row["candidate_id"]: row["response"].split()[0] for row in rows(run / "candidates.parquet")}
    return {
        (words[row["chosen_id"]], words[row["rejected_id"]]): row
        for row in found["pairs"]
        if row["prompt_id"] == "first"
    }


def test_show(prefgen: Runner) -> None:
    ran = prefgen("constitution", "show", "concise-expert")
    assert "correct (weight 3, 50.0%): An expert in the field would sign" in ran.out
    found = prefgen("constitution", "show", "concise-expert", "--json").result
    assert found["shares"]["concise"] == pytest.approx(1 / 6)
    ran = prefgen("constitution", "show", "no-such")
    assert (ran.code, "no such constitution" in ran.err) == (2, True)


def test_what_changed(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> None:
    constitution(tmp_path / "a.yaml", {"kind": ("kind", 3.0), "brief": ("brief", 1.0), "calm": ("calm", 1.0)})
    b = {"kind": ("kinder", 3.0), "brief": ("brief", 2.0), "fair": ("fair", 1.0)}
    found = diff(prefgen, tmp_path, b, "--json").result["changes"]
    assert [item["id"] for item in found["added"]] == ["fair"]
    assert [item["id"] for item in found["removed"]] == ["calm"]
    (reworded,) = found["reworded"]
    assert reworded == {
        "id": "kind",
        "before": "The reply must be kind.",
        "after": "The reply must be kinder.",
    }
    assert found["reweighted"] == [{"id": "brief", "before": 1.0, "after": 2.0}]
    assert found["shares"]["kind"] == {"before": pytest.approx(0.6), "after": pytest.approx(0.5)}
    assert found["shares"]["calm"] == {"before": pytest.approx(0.2), "after": None}
    shown = diff(prefgen, tmp_path, b).out
    for said in (
        "+ added fair (none → 16.7%): The reply must be fair.",
        "- removed calm (20.0% → none): The reply must be calm.",
        "~ reworded kind (60.0% → 50.0%)",
        "    + The reply must be kinder.",
        "~ reweighted brief: weight 1 → 2 (20.0% → 33.3%)",
    ):
        assert said in shown, said
    same = prefgen("constitution", "diff", tmp_path / "a.yaml", tmp_path / "a.yaml")
    assert "the same principles" in same.out


def test_a_reworded_principle_is_asked_and_nothing_else(
    prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes
) -> None:
    """kinder: alpha -2, beta 0, gamma 2. Scores: alpha -1.5 - .5 = -2, beta .5, gamma 1.5."""
    fakes.asked.clear()
    b = {"kind": ("kinder", 3.0), "brief": ("brief", 1.0)}
    found = diff(prefgen, tmp_path, b, "--run", run, "--json").result
    assert (found["asked"], found["questions"], found["asked_now"]) == ("principles", 6, 6)
    assert len(fakes.asked) == 6
    assert all("kinder" in request.messages[0].content for request in fakes.asked)
    assert found["counts"] == {"flipped": 6, "disappeared": 0, "appeared": 0}
    told = moved(found, run)
    row = told["alpha", "gamma"]
    assert (row["margin_before"], row["margin_after"]) == (pytest.approx(2.5), pytest.approx(-3.5))
    assert (row["confidence_before"], row["confidence_after"]) == (sure(2.5), sure(-3.5))
    assert (row["moved_by"], row["moved"]) == ("kind", pytest.approx(-6))
    assert row["kept_after"] is True
    assert told["alpha", "beta"]["margin_after"] == pytest.approx(-2.5)
    assert told["beta", "gamma"]["margin_after"] == pytest.approx(-1)


def test_what_was_paid_is_not_asked_again(prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes) -> None:
    b = {"kind": ("kinder", 3.0), "brief": ("brief", 1.0)}
    fakes.asked.clear()
    stopped = diff(prefgen, tmp_path, b, "--run", run, "--max-requests", 4)
    assert stopped.code == 4
    assert len(fakes.asked) == 4
    found = diff(prefgen, tmp_path, b, "--run", run, "--json").result
    assert len(fakes.asked) == 6
    assert (found["usage"]["requests"], found["usage"]["cached_requests"]) == (2, 4)
    assert diff(prefgen, tmp_path, b, "--run", run, "--json").result["usage"]["requests"] == 0


def test_weights_alone_take_no_call(prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes) -> None:
    """With 1 and 3: alpha .5 - 1.5 = -1, beta 1.5, gamma -.5: alpha loses to both, beta over gamma is 2."""
    fakes.asked.clear()
    b = {"kind": ("kind", 1.0), "brief": ("brief", 3.0)}
    found = diff(prefgen, tmp_path, b, "--run", run, "--json").result
    assert (found["asked"], found["questions"], found["usage"]) == ("nothing", 0, None)
    assert not fakes.asked
    told = moved(found, run)
    assert set(told) == {("alpha", "beta"), ("alpha", "gamma")}
    row = told["alpha", "gamma"]
    assert row["change"] == "flipped"
    assert row["margin_after"] == pytest.approx(-0.5)
    # kind: .75 · 4 → .25 · 4; brief: .25 · -2 → .75 · -2.
    assert (row["moved_by"], row["moved"]) == ("kind", pytest.approx(-2))
    assert row["kept_after"] is True, "62% is enough for the run"
    assert told["alpha", "beta"]["moved_by"] == "brief"


def test_added_and_removed_principles(prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes) -> None:
    """Without brief: alpha 2, beta 0, gamma -2, as before. With calm instead, at 3 to 1: gamma -1.5 + 2."""
    fakes.asked.clear()
    found = diff(prefgen, tmp_path, {"kind": ("kind", 3.0)}, "--run", run, "--json").result
    assert (found["asked"], found["pairs"], len(fakes.asked)) == ("nothing", [], 0)
    b = {"kind": ("kind", 3.0), "calm": ("calm", 1.0)}
    found = diff(prefgen, tmp_path, b, "--run", run, "--json").result
    assert (found["asked"], len(fakes.asked)) == ("principles", 6)
    told = moved(found, run)
    # Scores now: alpha 1.5, beta 0, gamma .5.
    assert told["beta", "gamma"]["change"] == "flipped"
    assert told["beta", "gamma"]["margin_after"] == pytest.approx(-0.5)
    assert (told["beta", "gamma"]["moved_by"], told["beta", "gamma"]["moved"]) == ("calm", pytest.approx(-2))
    assert set(told) == {("beta", "gamma")}


def test_pairs_that_disappear_and_appear(prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes) -> None:
    """Of a run that keeps what is surer than 75%: alpha over gamma at 4 kind to 4 brief is 1 (73%)."""
    strict = tmp_path / "strict"
    options = ("--strategy", "all", "--max-pairs", 3, "--min-confidence", 0.75, "--out", strict)
    assert prefgen("pair", run, *options).code == 0
    b = {"kind": ("kind", 1.0), "brief": ("brief", 1.0)}
    told = moved(diff(prefgen, tmp_path, b, "--run", strict, "--json").result, run)
    # Scores: alpha 0, beta 1, gamma -1.
    assert {ids: (row["change"], row["reason"]) for ids, row in told.items()} == {
        ("alpha", "gamma"): ("disappeared", "margin")
    }
    assert told["alpha", "gamma"]["confidence_after"] == sure(1)
    b = {"kind": ("kind", 9.0), "brief": ("brief", 1.0)}
    told = moved(diff(prefgen, tmp_path, b, "--run", strict, "--json").result, run)
    assert {ids: row["change"] for ids, row in told.items()} == {("alpha", "beta"): "appeared"}
    assert told["alpha", "beta"]["confidence_before"] == sure(0.5)
    assert told["alpha", "beta"]["confidence_after"] == sure(1.4)  # .9 · 2 - .1 · 4


def test_out_holds_the_flips_and_the_new_judgments(
    prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes
) -> None:
    b, out = {"kind": ("kinder", 3.0), "brief": ("brief", 1.0)}, tmp_path / "out"
    ran = diff(prefgen, tmp_path, b, "--run", run, "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert {"flips.jsonl", "judgments.parquet", "manifest.json", "config.yaml"} <= files(out)
    lines = [json.loads(line) for line in (out / "flips.jsonl").read_text().splitlines()]
    assert lines == ran.result["pairs"]
    judged = rows(out / "judgments.parquet")
    assert len(judged) == 6
    assert {row["principle"] for row in judged} == {"kind"}
    assert {row["constitution"] for row in judged} == {ran.result["b"]["hash"]}
    assert diff(prefgen, tmp_path, b, "--run", run, "--out", out).code == 2
    again = diff(prefgen, tmp_path, b, "--run", run, "--out", out, "--overwrite", "--json")
    assert again.result["pairs"] == lines
    assert diff(prefgen, tmp_path, b, "--out", tmp_path / "other").code == 2


def test_one_question_for_all_is_asked_of_the_runs_pairs(
    prefgen: Runner, tmp_path: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PREFGEN_LEDGER", str(tmp_path / "l.sqlite"))
    constitution(tmp_path / "a.yaml", {"kind": ("kind", 1.0)})
    prompts = some_prompts(tmp_path / "p.jsonl", 6)
    options = ("--constitution", tmp_path / "a.yaml", "--planted", 0, "--n", 4, "--out", tmp_path / "run")
    made = prefgen("generate", prompts, *FAKES, *options, "--json").result
    pairs = made["counts"]["pairs"]
    b = {"kind": ("kinder", 1.0)}
    quote = diff(prefgen, tmp_path, b, "--run", tmp_path / "run", "--quote", "--json").result
    assert (quote["asked"], quote["questions"]) == ("pairs", 2 * pairs)
    assert "pairs_before" not in quote
    ran = diff(prefgen, tmp_path, b, "--run", tmp_path / "run", "--json")
    assert f"{2 * pairs} questions" in ran.err
    found = ran.result
    assert found["asked_now"] == found["usage"]["requests"] == 2 * pairs
    # This judge counts words, whatever it is told to look for.
    assert (found["pairs_before"], found["pairs_after"], found["pairs"]) == (pairs, pairs, [])
    assert "pairs that would come instead" in diff(prefgen, tmp_path, b, "--run", tmp_path / "run").out
    weights = {"kind": ("kind", 2.0)}
    found = diff(prefgen, tmp_path, weights, "--run", tmp_path / "run", "--json").result
    assert (found["asked"], found["pairs"]) == ("nothing", [])


def test_each_principle_of_a_pair_is_asked_by_itself(
    prefgen: Runner, tmp_path: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PREFGEN_LEDGER", str(tmp_path / "l.sqlite"))
    constitution(tmp_path / "a.yaml", {"kind": ("kind", 1.0), "brief": ("brief", 1.0)})
    prompts = some_prompts(tmp_path / "p.jsonl", 3)
    options = ("--constitution", tmp_path / "a.yaml", "--principles", "each", "--planted", 0, "--n", 3)
    assert prefgen("generate", prompts, *FAKES, *options, "--out", tmp_path / "run").code == 0
    stored = [row for row in rows(tmp_path / "run" / "judgments.parquet") if row["principle"] == "brief"]
    b = {"kind": ("kind", 1.0), "brief": ("briefer", 1.0)}
    found = diff(prefgen, tmp_path, b, "--run", tmp_path / "run", "--out", tmp_path / "d", "--json").result
    fresh = rows(tmp_path / "d" / "judgments.parquet")
    assert found["questions"] == len(fresh) == len(stored)
    key = ("a_id", "b_id", "order")
    assert {tuple(row[name] for name in key) for row in fresh} == {
        tuple(row[name] for name in key) for row in stored
    }


@pytest.mark.parametrize(
    "how", [("--judging", "score"), ("--judging", "listwise"), ("--principles", "sample")]
)
def test_other_ways_of_judging(
    prefgen: Runner, tmp_path: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, how: tuple[str, str]
) -> None:
    """The scripted judge reads no constitution, so the same pairs come out; the number asked is as quoted."""
    monkeypatch.undo()
    monkeypatch.setenv("PREFGEN_LEDGER", str(tmp_path / "l.sqlite"))
    constitution(tmp_path / "a.yaml", {"kind": ("kind", 1.0)})
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    options = (
        "--constitution",
        tmp_path / "a.yaml",
        *how,
        "--planted",
        0,
        "--n",
        3,
        "--out",
        tmp_path / "run",
    )
    made = prefgen("generate", prompts, *FAKES, *options, "--min-confidence", 0.6, "--json").result
    assert made["counts"]["pairs"] > 0
    found = diff(prefgen, tmp_path, {"kind": ("kinder", 1.0)}, "--run", tmp_path / "run", "--json").result
    assert (found["asked"], found["pairs"]) == ("pairs", [])
    assert found["pairs_after"] == made["counts"]["pairs"]
    assert found["usage"]["requests"] == found["questions"] > 0


def test_failed_calls_end_it(prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes) -> None:
    fakes.failing = {("kinder", "gamma")}
    b = {"kind": ("kinder", 3.0), "brief": ("brief", 1.0)}
    ran = diff(prefgen, tmp_path, b, "--run", run)
    assert ran.code == 3
    assert "2 of 6 judge calls failed (refusal: 2)" in ran.err
    ran = diff(prefgen, tmp_path, b, "--run", run, "--max-failure-share", 0.5, "--json")
    assert ran.code == 0, ran.err
    found = ran.result
    told = moved(found, run)
    assert (told["alpha", "gamma"]["change"], told["alpha", "gamma"]["reason"]) == (
        "disappeared",
        "judge_failure",
    )
    assert told["alpha", "gamma"]["confidence_after"] is None
    out = ("--run", run, "--out", tmp_path / "out", "--max-failure-share", 0.5, "--json")
    assert diff(prefgen, tmp_path, b, *out).code == 0
    fakes.failing.clear()
    found = diff(prefgen, tmp_path, b, *out, "--resume").result
    assert found["failures"] == {}, "what failed is asked again"
    assert found["counts"]["flipped"] == 6


def test_what_cannot_be_compared_is_refused(prefgen: Runner, run: Path, tmp_path: Path, fakes: Fakes) -> None:
    other = constitution(tmp_path / "other.yaml", {"calm": ("calm", 1.0)})
    ran = prefgen("constitution", "diff", other, tmp_path / "a.yaml", "--run", run)
    assert ran.code == 2
    assert "not the constitution that the run was judged by" in ran.err
    manifest = json.loads((run / "manifest.json").read_text())
    judged = manifest["judged_by"] | {"votes": 3}
    (run / "manifest.json").write_text(json.dumps(manifest | {"judged_by": judged}))
    ran = prefgen("constitution", "diff", tmp_path / "a.yaml", other, "--run", run)
    assert (ran.code, "cannot be asked in the same way" in ran.err) == (2, True)
    (run / "manifest.json").write_text(json.dumps(manifest | {"constitution": None}))
    ran = prefgen("constitution", "diff", tmp_path / "a.yaml", other, "--run", run)
    assert (ran.code, "reward model" in ran.err) == (2, True)


def test_a_shipped_constitution_and_a_file(prefgen: Runner, tmp_path: Path) -> None:
    told = yaml.safe_load(prefgen("constitution", "show", "support-tone", "--json").out)
    mine = {"id": "mine", "principles": told["principles"][:-1]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    ran = prefgen("constitution", "diff", "support-tone", tmp_path / "mine.yaml")
    assert "- removed concise" in ran.out

"""Every way of judging through the command line: what is asked, what comes out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import FAKES, Runner, rows, some_prompts, write_prompts

KINDS = [
    ("--judging", "pairwise"),
    ("--judging", "pairwise", "--reasoning"),
    ("--judging", "pairwise", "--evidence", "votes", "--votes", "9", "--adaptive-votes"),
    ("--judging", "pointwise"),
    ("--judging", "pointwise", "--reasoning"),
    ("--judging", "score"),
    ("--judging", "score", "--evidence", "score"),
    ("--judging", "score", "--evidence", "votes", "--votes", "3"),
    ("--judging", "score", "--reasoning"),
    ("--judging", "listwise"),
    ("--judging", "listwise", "--evidence", "votes", "--permutations", "6"),
]
EACH = pytest.mark.parametrize("kind", KINDS, ids=" ".join)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return some_prompts(tmp_path / "p.jsonl", 6)


@EACH
def test_what_says_more_is_chosen_however_it_is_judged(
    kind: tuple[str, ...], tmp_path: Path, prompts: Path, prefgen: Runner
) -> None:
    out = tmp_path / "run"
    done = prefgen("generate", prompts, *FAKES, "--n", 4, *kind, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.result["counts"]["pairs"] > 0
    assert done.result["planted"] == {"checked": 12, "wrong": 0}
    for split in ("train", "test"):
        for row in rows(out / "dpo" / f"{split}.parquet"):
            chosen, rejected = (len(set(row[side][0]["content"].split())) for side in ("chosen", "rejected"))
            assert chosen > rejected


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (("--judging", "score"), 4),
        (("--judging", "listwise"), 4),
        (("--judging", "listwise", "--permutations", "2"), 2),
        (("--judging", "pairwise"), 12),
        (("--judging", "pairwise", "--reasoning"), 24),
    ],
    ids=str,
)
def test_calls_per_prompt_of_four_candidates(
    kind: tuple[str, ...], calls: int, tmp_path: Path, prompts: Path, prefgen: Runner
) -> None:
    command = ("generate", prompts, *FAKES, "--n", 4, *kind, "--planted", 0)
    done = prefgen(*command, "--out", tmp_path / "run", "--json")
    assert done.result["usage"]["requests"] == 6 * (1 + calls)


@EACH
def test_a_stopped_run_asks_nothing_twice(
    kind: tuple[str, ...], tmp_path: Path, prompts: Path, prefgen: Runner
) -> None:
    command = ("generate", prompts, *FAKES, "--n", 3, *kind, "--json", "--concurrency", 2)
    whole = prefgen(*command, "--out", tmp_path / "whole", "--ledger", tmp_path / "own")
    needed = whole.result["usage"]["requests"]
    stopped = prefgen(*command, "--out", tmp_path / "run", "--max-requests", needed // 2)
    assert stopped.code == 4
    done = prefgen(*command, "--out", tmp_path / "run", "--resume")
    assert done.code == 0, done.err
    assert done.result["usage"]["requests"] == needed
    for table in ("judgments", "scores"):
        assert rows(tmp_path / "run" / f"{table}.parquet") == rows(tmp_path / "whole" / f"{table}.parquet")


def test_other_pairs_from_listwise_judgments(tmp_path: Path, prompts: Path, prefgen: Runner) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    prefgen("generate", prompts, *FAKES, "--judging", "listwise", "--out", run)
    done = prefgen("pair", run, "--strategy", "all", "--max-pairs", 3, "--out", other, "--json")
    assert done.code == 0, done.err
    assert done.result["counts"]["pairs"] > 6
    assert done.result["usage"]["requests"] == 0


def with_gold(path: Path, *gold: object) -> Path:
    return write_prompts(path, [{"prompt": f"q{n}", "gold": text} for n, text in enumerate(gold)])


def pairs_file(path: Path, **extra: object) -> Path:
    rows = [{"id": n, "prompt": "q", "response_a": "one two", "response_b": "one"} | extra for n in range(2)]
    return write_prompts(path, rows)


@EACH
def test_a_reference_is_shown_to_every_kind_of_judge(
    kind: tuple[str, ...], tmp_path: Path, prefgen: Runner
) -> None:
    """Another reference is another question, so nothing comes from the ledger."""
    for number, gold in enumerate(("forty-two", "forty-three")):
        prompts = with_gold(tmp_path / f"{number}.jsonl", gold)
        command = ("generate", prompts, *FAKES, "--n", 3, *kind, "--planted", 0, "--reference", "gold")
        done = prefgen(*command, "--out", tmp_path / f"run{number}", "--json")
        assert done.code == 0, done.err
        # The three candidates are the same: they are sampled once for both.
        assert done.result["usage"]["cached_requests"] == number
        (row,) = {row["template"] for row in rows(tmp_path / f"run{number}" / "judgments.parquet")}
        plain = prefgen(*command[:-2], "--out", tmp_path / f"plain{number}", "--json")
        assert plain.code == 0
        assert row not in {row["template"] for row in rows(tmp_path / f"plain{number}" / "judgments.parquet")}


@pytest.mark.parametrize("gold", [None, "", "  ", 3, ["x"]])
def test_a_row_without_a_reference_is_named_before_any_call(
    gold: object, tmp_path: Path, prefgen: Runner
) -> None:
    prompts = with_gold(tmp_path / "p.jsonl", "fine", gold)
    done = prefgen("generate", prompts, *FAKES, "--reference", "gold", "--out", tmp_path / "run")
    assert done.code == 2
    assert "p.jsonl:2: no text in column 'gold'" in done.err
    assert not (tmp_path / "run").exists()


def test_references_of_pairs(tmp_path: Path, prefgen: Runner) -> None:
    command = ("judge", "--judge", "scripted/judge", "--out", tmp_path / "v.jsonl", "--reference", "gold")
    missing = prefgen(*command, pairs_file(tmp_path / "a.jsonl"))
    assert missing.code == 2
    assert "a.jsonl:1: no column 'gold'" in missing.err
    wrong = prefgen(*command, pairs_file(tmp_path / "b.jsonl", gold=1.5))
    assert "b.jsonl:1: no text in column 'gold'" in wrong.err
    assert not (tmp_path / "v.jsonl").exists()
    assert prefgen(*command, pairs_file(tmp_path / "c.jsonl", gold="one two")).code == 0


@pytest.mark.parametrize("judging", ["score", "listwise"])
def test_pairs_that_exist(judging: str, tmp_path: Path, prefgen: Runner) -> None:
    out = tmp_path / "v.jsonl"
    pairs = pairs_file(tmp_path / "p.jsonl")
    done = prefgen("judge", pairs, "--judge", "scripted/judge", "--judging", judging, "--out", out)
    assert done.code == 0, done.err
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["verdict"], row["order"]) for row in told] == [("a", None)] * 2


def test_a_users_scale_and_template(tmp_path: Path, prompts: Path, prefgen: Runner) -> None:
    scale = tmp_path / "scale.yaml"
    scale.write_text("id: three\nlevels:\n  0: bad\n  1: fair\n  2: good\n")
    command = ("generate", prompts, *FAKES, "--judging", "score", "--out", tmp_path / "run", "--json")
    done = prefgen(*command, "--scale", scale)
    assert done.code == 0, done.err
    assert str(scale) in done.result["inputs"]
    scale.write_text("id: three\nlevels:\n  0: bad\n  1: fair\n  2: very good\n")
    changed = prefgen(*command, "--scale", scale, "--resume")
    assert changed.code == 2
    assert "inputs: was" in changed.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--judging", "ranked"), "'ranked' is not one of"),
        (("--scale", "none.yaml"), "--scale goes with --judging score"),
        (("--judging", "score", "--scale", "none.yaml"), "no such scale"),
        (("--judging", "listwise", "--evidence", "logprobs"), "reads written rankings"),
        (("--judging", "listwise", "--votes", "3"), "--permutations in place of --votes"),
        (("--judging", "listwise", "--permutations", "0"), "--permutations"),
        (("--judging", "listwise", "--n", "27"), "at most 26 candidates"),
        (("--judging", "listwise", "--reasoning"), "gives its reasons anyway"),
        (("--reasoning", "--evidence", "score"), "gives its reasons anyway"),
        (("--adaptive-votes",), "add --votes 9"),
        (("--adaptive-votes", "--votes", "9", "--evidence", "score"), "add --votes 9"),
        (
            ("--adaptive-votes", "--votes", "9", "--judging", "score"),
            "goes with --judging pairwise or pointwise",
        ),
        (("--reference", "gold"), "no column 'gold'"),
        (
            ("--judging", "pointwise", "--reference", "number", "--judge-template", "t.txt"),
            "expected: principle, prompt, reference, response",
        ),
    ],
    ids=str,
)
def test_what_is_refused_before_any_call(
    arguments: tuple[str, ...], told: str, tmp_path: Path, prompts: Path, prefgen: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("{{principle}} {{prompt}} {{response}} {{question}}")
    done = prefgen("generate", prompts, *FAKES, *arguments, "--out", tmp_path / "run")
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_a_reward_model_reads_no_reference(tmp_path: Path, prompts: Path, prefgen: Runner) -> None:
    done = prefgen(
        "generate", prompts, "--policy", "scripted/writer", "--reward-model", "openai/x@http://127.0.0.1:9",
        "--reference", "gold", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 2
    assert "a reward model reads no reference" in done.err

"""Judging what exists, comparing two models, and re-pairing: with the scripted models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from running import FAKES, Runner, rows, some_prompts

from judges.asking import Asking
from judges.constitution import load_constitution
from judges.pairwise import PairwiseJudge
from pipelines.evaluation.annotate import agreement, compare
from pipelines.evaluation.annotations import Annotation
from pipelines.evaluation.answers import answer
from pipelines.evaluation.numbers import evaluation
from pipelines.judge import judge_pairs
from prefgen.completion import Completion, CompletionRequest, Sampling
from prefgen.errors import GateError, TransientError
from prefgen.labels import read_labels, read_pairs
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models.scripted import ScriptedModel, open_scripted
from prefgen.prices import Price
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.sampling import SamplingPlan

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def pairs_file(path: Path, *sizes: tuple[int, int], label: str | None = None) -> Path:
    """Pairs whose responses have so many words; the scripted judge prefers the longer."""
    extra = {} if label is None else {"label": label}
    lines = [
        {
            "id": str(n),
            "prompt": f"q{n}",
            "response_a": " ".join(WORDS[:a]),
            "response_b": " ".join(WORDS[:b]),
        }
        for n, (a, b) in enumerate(sizes)
    ]
    path.write_text("".join(json.dumps(line | extra) + "\n" for line in lines))
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "own.sqlite")


def scripted_judge(ledger: Ledger) -> PairwiseJudge:
    model = RecordedModel(open_scripted("judge"), ledger)
    return PairwiseJudge(model, load_constitution("concise-expert"), Asking())


def test_judge_command_writes_a_line_for_each_order(tmp_path: Path, prefgen: Runner) -> None:
    out = tmp_path / "v.jsonl"
    pairs = pairs_file(tmp_path / "p.jsonl", (5, 2), (3, 3))
    done = prefgen("judge", pairs, "--judge", "scripted/judge", "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.result["n"] == 2
    told = [json.loads(line) for line in out.read_text().splitlines()]
    # The scripted judge's log-odds: difference of distinct words, and half a nat for the first slot.
    assert [(row["id"], row["order"], row["verdict"]) for row in told] == [
        ("0", "ab", "a"),
        ("0", "ba", "a"),
        ("1", "ab", "a"),
        ("1", "ba", "b"),
    ]
    assert told[0]["p_a"] == pytest.approx(1 / (1 + math.exp(-3.5)))
    assert told[1]["p_a"] == pytest.approx(1 / (1 + math.exp(-2.5)))
    assert {row["judge"] for row in told} == {"scripted/judge"}


def test_judge_command_keeps_what_the_user_has(tmp_path: Path, prefgen: Runner) -> None:
    out = tmp_path / "v.jsonl"
    out.write_text("mine")
    pairs = pairs_file(tmp_path / "p.jsonl", (5, 2))
    refused = prefgen("judge", pairs, "--judge", "scripted/judge", "--out", out)
    assert (refused.code, out.read_text()) == (2, "mine")
    assert "--overwrite" in refused.err


async def test_two_orders_cancel_the_slot(tmp_path: Path, ledger: Ledger) -> None:
    with ledger:
        judged = await judge_pairs(
            scripted_judge(ledger), read_pairs(pairs_file(tmp_path / "p.jsonl", (5, 2), (3, 3)))
        )
    assert [item.margin for item in judged] == pytest.approx([3.0, 0.0])


async def test_agreement_with_labels(tmp_path: Path, ledger: Ledger) -> None:
    path = pairs_file(tmp_path / "l.jsonl", (5, 2), (1, 2), (6, 3), (2, 2), label="a")
    with ledger:
        found = await agreement(scripted_judge(ledger), read_labels(path))
    # The judge says a, b, a and undecided; people say a.
    assert (found["n"], found["agreement"], found["n_undecided"]) == (3, pytest.approx(2 / 3), 1)


async def test_compare_counts_failures_and_ties(ledger: Ledger) -> None:
    prompts = [Prompt(str(n), user(f"q{n}")) for n in range(3)]

    def say(request: CompletionRequest, sample: int) -> str | Exception:
        return TransientError("gone") if "q2" in request.messages[0].content else "one two three"

    plan = SamplingPlan(1, Sampling(max_tokens=10))
    with ledger:
        ours = await answer(prompts, RecordedModel(ScriptedModel(say, "scripted/ours"), ledger), plan)
        longer = ScriptedModel(
            lambda request, _: "one" if "q0" in request.messages[0].content else "one two three",
            "scripted/other",
        )
        theirs = await answer(prompts, RecordedModel(longer, ledger), plan)
        annotations = await compare(scripted_judge(ledger), prompts, ours, theirs)
    assert annotations[0].preference == pytest.approx(1 / (1 + math.exp(-2)))
    assert annotations[1].preference == 0.5
    assert annotations[2].preference is None
    found = evaluation(annotations, "scripted/judge")
    assert (found["n"], found["n_failed"], found["discrete_win_rate"]) == (2, 1, 75.0)


def test_nothing_judged_is_no_win_rate() -> None:
    with pytest.raises(GateError):
        evaluation([Annotation("1", None, 1, 1)], "j")


def test_pair_makes_the_same_pairs_from_the_tables(tmp_path: Path, prefgen: Runner) -> None:
    """Re-pairing under the run's own rule gives the run's own rows, without a call."""
    run, again, strict = tmp_path / "run", tmp_path / "again", tmp_path / "strict"
    prompts = some_prompts(tmp_path / "p.jsonl", 12)
    assert prefgen("generate", prompts, *FAKES, "--out", run).code == 0
    assert prefgen("pair", run, "--out", again).code == 0
    for table in ("dpo/train", "dpo/test", "kto/train", "scores", "judgments"):
        assert rows(again / f"{table}.parquet") == rows(run / f"{table}.parquet")
    done = prefgen("pair", run, "--out", strict, "--strategy", "all", "--max-pairs", 3, "--json")
    assert done.result["usage"]["requests"] == 0
    assert done.result["counts"]["pairs"] > len(rows(run / "dpo/train.parquet"))


def test_pair_refuses_what_is_no_finished_run(tmp_path: Path, prefgen: Runner) -> None:
    refused = prefgen("pair", tmp_path, "--out", tmp_path / "out")
    assert refused.code == 2
    assert "not a run directory" in refused.err


def test_costs_are_told_by_judgment_and_in_all(tmp_path: Path, prefgen: Runner) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    assert prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run").code == 0
    # Scripted models cost nothing; a completion's price is worked out by hand here.
    assert {row["cost"] for row in rows(tmp_path / "run/judgments.parquet")} == {0.0}
    from prefgen.usage import Usage

    usage = Usage(Price(2.0, 10.0))
    usage.add("m", [Completion("x", input_tokens=1_000_000, output_tokens=500_000)])
    assert usage.cost_usd == 7.0
    assert Usage().cost_usd is None

"""Cheap meetings through the command line: fewer calls, the same kind of pairs, and the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from running import FAKES, Runner, rows, some_prompts

from judges.ranking import Sparse

K, PROMPTS = 8, 6


def pairs(run: Path) -> list[dict[str, Any]]:
    found = [row for split in ("train", "test") for row in rows(run / "dpo" / f"{split}.parquet")]
    return sorted(found, key=lambda row: row["pair_id"])


@pytest.mark.parametrize("meetings", get_args(Sparse))
def test_each_pair_rests_on_both_orders_and_can_be_made_again(
    prefgen: Runner, tmp_path: Path, meetings: str
) -> None:
    prompts, run = some_prompts(tmp_path / "p.jsonl", PROMPTS), tmp_path / "run"
    done = prefgen("generate", prompts, *FAKES, "--n", K, "--meetings", meetings, "--out", run, "--json")
    assert done.code == 0, done.err
    assert done.result["counts"]["pairs"] == PROMPTS
    assert done.result["counts"]["judgments"] < PROMPTS * K * (K - 1) / 3
    asked = {(row["a_id"], row["b_id"], row["order"]) for row in rows(run / "judgments.parquet")}
    for row in pairs(run):
        sides = (row["chosen_id"], row["rejected_id"])
        assert {order for a, b, order in asked if {a, b} == set(sides)} == {"ab", "ba"}
    assert prefgen("pair", run, "--out", tmp_path / "again", "--test-share", 0.05).code == 0
    assert pairs(tmp_path / "again") == pairs(run)


def test_what_did_not_meet_in_both_orders_is_counted(prefgen: Runner, tmp_path: Path) -> None:
    prompts, run = some_prompts(tmp_path / "p.jsonl", 2), tmp_path / "run"
    prefgen("generate", prompts, *FAKES, "--n", 5, "--meetings", "ring", "--out", run)
    done = prefgen("pair", run, "--strategy", "all", "--max-pairs", 10, "--out", tmp_path / "all", "--json")
    assert done.result["counts"]["pairs"] == 2
    assert done.result["counts"]["dropped"]["not_compared"] > 10


OPTIONS = [
    (["elo"], ["--meetings", "'elo'", "knockout"]),
    (["ring", "--no-both-orders"], ["--no-both-orders goes with --meetings round-robin"]),
    (["knockout", "--strategy", "all"], ["it goes with --strategy best-worst"]),
    (["knockout", "--meeting-rounds", "2"], ["--meeting-rounds goes with --meetings ring or swiss"]),
    (["ring", "--meeting-rounds", "0"], ["--meeting-rounds", "seen: 0"]),
    (["swiss", "--judging", "pointwise"], ["--meetings swiss goes with --judge MODEL --judging pairwise"]),
]


@pytest.mark.parametrize(("options", "parts"), OPTIONS, ids=lambda value: " ".join(value)[:60])
def test_options(prefgen: Runner, tmp_path: Path, options: list[str], parts: list[str]) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    done = prefgen("generate", prompts, *FAKES, "--meetings", *options, "--out", tmp_path / "run")
    assert done.code == 2
    assert all(part in done.err for part in parts), done.err
    assert not (tmp_path / "run").exists()

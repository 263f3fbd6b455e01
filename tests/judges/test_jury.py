"""Several judges as one: pooled by hand, kept apart in what is recorded."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
from making import PROMPT, candidate, failure, judgment

from judges.jury import Jury
from prefgen.judgment import JudgeResult
from prefgen.verdicts import Combine, Weighing, settle

A, B = candidate("one", 0), candidate("two", 1)
IDS = [A.id, B.id]
SAID = {"x": 1.0, "y": -2.0, "z": 6.0}


def by(judge: str, result: JudgeResult) -> JudgeResult:
    return replace(result, provenance=replace(result.provenance, judge=judge))


def told(said: dict[str, float]) -> list[JudgeResult]:
    """Each judge in both orders, with a slot bias of its own that the orders cancel."""
    return [
        by(name, judgment(A.id, B.id, odds + sign * len(name), order=order))
        for name, odds in said.items()
        for sign, order in ((1, "ab"), (-1, "ba"))
    ]


@pytest.mark.parametrize(
    ("combine", "pooled"),
    [("mean", 5 / 3), ("median", 1.0), ("trimmed", 1.0), ("stacked", 0.5 * 1 + 0.25 * -2 + 2 * 6)],
)
def test_pools_by_hand(combine: Combine, pooled: float) -> None:
    weighing = Weighing(combine=combine, judges={"x": 0.5, "y": 0.25, "z": 2.0})
    standing = settle(IDS, told(SAID), weighing)
    assert standing.margin(A.id, B.id) == pytest.approx(pooled)
    assert standing.margin(B.id, A.id) == pytest.approx(-pooled)


def test_a_trimmed_mean_leaves_out_one_on_each_side() -> None:
    four = SAID | {"w": 2.0}
    assert settle(IDS, told(four), Weighing(combine="trimmed")).margin(A.id, B.id) == pytest.approx(1.5)
    two = {"x": 1.0, "y": 3.0}
    assert settle(IDS, told(two), Weighing(combine="trimmed")).margin(A.id, B.id) == pytest.approx(2.0)


def test_of_a_cascade_only_the_first_is_settled() -> None:
    weighing = Weighing(combine="cascade", judges={"y": 1.0})
    assert settle(IDS, told(SAID), weighing).margin(A.id, B.id) == pytest.approx(-2.0)


def test_one_judge_that_fails_leaves_the_pair_undecided() -> None:
    results = [*told({"x": 1.0}), by("y", failure(A.id, B.id))]
    standing = settle(IDS, results, Weighing(combine="median"))
    assert standing.margin(A.id, B.id) is None
    assert standing.failed_between(A.id, B.id)


def test_scores_count_from_each_judges_own_mean() -> None:
    """x rates one response 9 over the other, y is kinder to both and finds them 1 apart."""
    results = [
        by("x", judgment(A.id, None, 9.0, order=None)),
        by("x", judgment(B.id, None, 0.0, order=None)),
        by("y", judgment(A.id, None, 101.0, order=None)),
        by("y", judgment(B.id, None, 100.0, order=None)),
    ]
    standing = settle(IDS, results, Weighing(combine="mean"))
    assert standing.margin(A.id, B.id) == pytest.approx(fmean([9.0, 1.0]))
    assert sum(standing.scores.values()) == pytest.approx(0.0)


def test_scores_and_comparisons_may_be_mixed() -> None:
    """A reward model beside a judge that compares: both have scores, so these are pooled."""
    results = [
        by("reward", judgment(A.id, None, 3.0, order=None)),
        by("reward", judgment(B.id, None, 1.0, order=None)),
        *told({"x": 4.0}),
    ]
    standing = settle(IDS, results, Weighing(combine="mean"))
    assert standing.margin(A.id, B.id) == pytest.approx(3.0)


class Fixed:
    """A judge with one opinion."""

    weighing = Weighing()

    def __init__(self, name: str, odds: float) -> None:
        self.name, self._odds = name, odds

    async def judge(self, prompt: object, candidates: object) -> list[JudgeResult]:
        return [by(self.name, judgment(A.id, B.id, self._odds))]


async def test_everybody_is_asked_and_everything_is_kept() -> None:
    jury = Jury([Fixed("x", 1.0), Fixed("y", -3.0)], Weighing(combine="mean"))
    results = await jury.judge(PROMPT, [A, B])
    assert [result.provenance.judge for result in results] == ["x", "y"]
    assert jury.name == "x + y"
    assert settle(IDS, results, jury.weighing).margin(A.id, B.id) == pytest.approx(-1.0)

"""Who meets whom: what each schedule asks, that it finds best and worst, and what it costs."""

from __future__ import annotations

import math
import runpy
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import failure, judgment

from judges.ranking import Match, Sparse, cycles, play, round_robin, schedule
from prefgen.judgment import JudgeResult
from prefgen.verdicts import ALIKE, settle

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "ranking.py"
NAMES = [f"c{number}" for number in range(16)]
SPARSE: tuple[Sparse, ...] = get_args(Sparse)
sizes = st.integers(2, 11)


class Judge:
    """Knows the truth: c0 is best and every further one is worse by 1; leans to the first slot by .5."""

    def __init__(self, failing: set[Match] | None = None) -> None:
        self.rounds: list[list[Match]] = []
        self._failing = failing or set()

    async def __call__(self, matches: list[Match]) -> list[JudgeResult]:
        self.rounds.append(matches)
        return [self._judge(match) for match in matches]

    def _judge(self, match: Match) -> JudgeResult:
        first, second = match
        if match in self._failing:
            return failure(first, second)
        return judgment(first, second, NAMES.index(second) - NAMES.index(first) + 0.5)

    @property
    def asked(self) -> list[Match]:
        return [match for matches in self.rounds for match in matches]


async def played(meetings: Sparse, size: int, rounds: int = 1, judge: Judge | None = None) -> Judge:
    judge = judge or Judge()
    ids = NAMES[:size]
    await play(ids, schedule(meetings, ids, rounds, seed=1), judge, ALIKE)
    return judge


async def scheduled(meetings: Sparse, size: int) -> list[Match]:
    """What is played before best meets worst."""
    ids, judge = NAMES[:size], Judge()
    rounds = schedule(meetings, ids, 1, seed=1)
    matches = next(rounds)
    with suppress(StopIteration):
        while True:
            matches = rounds.send(settle(ids, await judge(matches)).scores)
    return judge.asked


def components(size: int, matches: Sequence[Match]) -> int:
    group = {name: name for name in NAMES[:size]}
    for match in matches:
        old, new = (group[name] for name in match)
        group = {name: new if label == old else label for name, label in group.items()}
    return len(set(group.values()))


def test_a_round_robin() -> None:
    assert round_robin(["a", "b", "c"]) == [
        ("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b"),
    ]  # fmt: skip
    assert round_robin(["a", "b", "c"], both_orders=False) == [("a", "b"), ("a", "c"), ("b", "c")]


@given(st.sampled_from(SPARSE), sizes, st.integers(1, 4))
async def test_everybody_is_tied_to_everybody_and_no_question_is_asked_twice(
    meetings: Sparse, size: int, rounds: int
) -> None:
    judge = await played(meetings, size, rounds)
    assert components(size, judge.asked) == 1
    assert max(Counter(judge.asked).values()) == 1


@given(st.sampled_from(SPARSE), sizes, st.integers(0, 9))
async def test_best_and_worst_have_met_in_both_orders(meetings: Sparse, size: int, seed: int) -> None:
    """So their margin is free of the slot's .5; and they are who they should be, or next to it."""
    judge = Judge()
    ids = NAMES[:size]
    standing = settle(ids, await play(ids, schedule(meetings, ids, 1, seed), judge, ALIKE))
    best, *_, worst = sorted(ids, key=lambda name: -standing.scores[name])
    apart = ids.index(worst) - ids.index(best)
    assert {(best, worst), (worst, best)} <= set(judge.asked)
    assert standing.margin(best, worst) == pytest.approx(apart)
    assert apart >= (0.6 if meetings == "ring" else 0.8) * (size - 1)


@given(st.sampled_from(SPARSE), st.permutations(NAMES[:7]), st.integers(0, 3))
def test_the_first_round_depends_on_seed_and_ids_alone(meetings: Sparse, order: list[str], seed: int) -> None:
    first = next(schedule(meetings, NAMES[:7], 1, seed))
    assert next(schedule(meetings, order, 1, seed)) == first
    assert next(schedule(meetings, order, 1, seed + 1)) != first


@given(sizes, st.integers(1, 12))
async def test_in_a_ring_everybody_is_shown_in_each_slot_once_a_lap(size: int, laps: int) -> None:
    (matches, *_) = (await played("ring", size, laps)).rounds
    for slot in (0, 1):
        assert set(Counter(match[slot] for match in matches).values()) == {min(laps, size - 1)}


async def test_a_ring_of_all_laps_is_a_round_robin() -> None:
    assert set((await played("ring", 6, 5)).asked) == set(round_robin(NAMES[:6]))


@given(st.integers(2, 16))
async def test_a_knockout_takes_three_halves_of_its_players(size: int) -> None:
    assert len(await scheduled("knockout", size)) == math.ceil(3 * size / 2) - 2


@pytest.mark.parametrize(("size", "rounds", "calls"), [(8, 1, 12), (8, 3, 20), (16, 1, 24), (7, 1, 10)])
async def test_swiss_is_a_lap_and_rounds_of_equals(size: int, rounds: int, calls: int) -> None:
    matches = (await played("swiss", size, rounds)).rounds
    assert len(matches[0]) == size
    assert sum(map(len, matches[: 1 + rounds])) == calls
    met = {frozenset(match) for match in matches[0]}
    apart = [abs(NAMES.index(a) - NAMES.index(b)) for a, b in matches[1]]
    assert not met & {frozenset(match) for match in matches[1]}
    assert sum(apart) / len(apart) < 3


async def test_slots_are_balanced_beyond_the_ring() -> None:
    for meetings in SPARSE:
        matches = await scheduled(meetings, 16)
        lead = Counter(first for first, _ in matches)
        lead.subtract(Counter(second for _, second in matches))
        assert max(map(abs, lead.values())) <= 2


@given(st.sampled_from(SPARSE), sizes, st.data())
async def test_matches_that_fail_are_not_played_and_the_rest_goes_on(
    meetings: Sparse, size: int, data: st.DataObject
) -> None:
    every = round_robin(NAMES[:size])
    failing = set(data.draw(st.lists(st.sampled_from(every), max_size=len(every))))
    judge = await played(meetings, size, judge=Judge(failing))
    assert len(judge.asked) == len(set(judge.asked))
    standing = settle(NAMES[:size], await judge(judge.asked))
    for a, b in combinations(NAMES[:size], 2):
        if {(a, b), (b, a)} & failing & set(judge.asked):
            assert standing.margin(a, b) is None


async def test_a_judge_that_always_fails() -> None:
    for meetings in SPARSE:
        judge = await played(meetings, 8, judge=Judge(set(round_robin(NAMES[:8]))))
        assert len(judge.asked) in (8, 10, 12)


@pytest.mark.parametrize("size", [0, 1])
async def test_nobody_to_meet(size: int) -> None:
    for meetings in SPARSE:
        assert (await played(meetings, size)).asked == []


async def test_a_best_that_changes_when_it_is_checked_is_checked_again() -> None:
    """c0 beats c4 by 9 when it is shown first and loses by 9 when it is second: not the best after all."""

    class Turncoat(Judge):
        def _judge(self, match: Match) -> JudgeResult:
            if match == (NAMES[4], NAMES[0]):
                return judgment(*match, 9.0)
            return super()._judge(match)

    judge = Turncoat()
    results = await play(NAMES[:5], schedule("ring", NAMES[:5], 1, seed=1), judge, ALIKE)
    scores = settle(NAMES[:5], results).scores
    ranked = sorted(scores, key=lambda name: -scores[name])
    assert len(judge.rounds) > 2
    assert {(ranked[0], ranked[-1]), (ranked[-1], ranked[0])} <= set(judge.asked)


def test_cycles() -> None:
    """a > b > c > a goes round; with d below all of them the other three triples do not."""
    circle = {("a", "b"): 1.0, ("b", "c"): 2.0, ("a", "c"): -0.5}
    assert cycles(circle) == (1, 1)
    assert cycles(circle | {("a", "d"): 1.0, ("b", "d"): 1.0, ("d", "c"): -1.0}) == (1, 4)
    assert cycles(circle | {("a", "c"): 0.5}) == (0, 1)
    assert cycles(circle | {("a", "c"): 0.0}) == (0, 0)
    assert cycles({("a", "b"): 1.0, ("b", "c"): 2.0}) == (0, 0)


@pytest.mark.parametrize(("size", "trials", "calls", "share"), [(8, 300, 12, 0.94), (16, 120, 24, 0.92)])
def test_a_knockout_finds_most_of_the_gap_for_few_calls(
    size: int, trials: int, calls: int, share: float
) -> None:
    bench = runpy.run_path(str(BENCHMARK))
    full, knockout = (
        bench["run"](next(way for way in bench["WAYS"] if way.meetings == name), size, trials)
        for name in ("round-robin", "knockout")
    )
    assert full.calls == size * (size - 1)
    assert knockout.calls <= calls
    assert knockout.gap >= share * full.gap
    assert sum(gap > 0 for gap in knockout.gaps) >= 0.98 * trials

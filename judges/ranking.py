"""Who meets whom: ranking K candidates for less than a round robin.

    round-robin   everybody meets everybody: K (K - 1) questions in both orders
    ring          everybody in a circle, each shown before its neighbour: K questions a lap
    swiss         a lap of the ring, then rounds in which those of nearly equal standing meet: K / 2 each
    knockout      winners meet for best, losers for worst: ceil(3 K / 2) - 2 questions

All but the first ask a pair in one order. Slots are balanced over candidates and the slot's pull is a term of
the scores (`prefgen.bradley_terry`), which says more for the same money than two orders of fewer pairs. What
becomes a pair must not rest on that: best and worst then meet in the orders in which they have not, until the
best and the worst of all that was said have met in both.

Minimum and maximum of K values in ceil(3 K / 2) - 2 comparisons: Pohl 1972. Swiss rounds of LLM judges: arXiv
2502.14074. The order of play depends on the seed, the candidates' ids and the answers alone, so that a run
that is resumed asks the same questions.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from itertools import combinations
from typing import Literal, TypeAlias

from prefgen.judgment import JudgeResult
from prefgen.messages import content_hash
from prefgen.verdicts import Pair, Weighing, settle

Meetings = Literal["round-robin", "ring", "swiss", "knockout"]
Sparse = Literal["ring", "swiss", "knockout"]
Match: TypeAlias = tuple[str, str]
"""Candidate ids, the one shown first first."""
Scores: TypeAlias = Mapping[str, float]
Schedule: TypeAlias = Generator[list[Match], Scores, None]
"""Yields the matches of a round, which are played at once, and is sent the scores after it. A candidate whose
matches all failed has none and counts as average."""


def round_robin(ids: Sequence[str], both_orders: bool = True) -> list[Match]:
    """Every pair, shown as listed and then the other way round."""
    return [
        match for a, b in combinations(ids, 2) for match in ([(a, b), (b, a)] if both_orders else [(a, b)])
    ]


def schedule(meetings: Sparse, ids: Sequence[str], rounds: int, seed: int) -> Schedule:
    """The matches of a cheap way to rank `ids`. `rounds`: laps of the ring, or rounds of swiss after one."""
    order = sorted(ids)
    random.Random(content_hash([seed, *order])).shuffle(order)
    match meetings:
        case "ring":
            return _ring(order, rounds)
        case "swiss":
            return _swiss(order, rounds)
        case "knockout":
            return _knockout(order)


def cycles(margins: Mapping[Pair, float]) -> tuple[int, int]:
    """(circles, triples): of all triples in which everybody met and no pair is even, how many go in a circle
    (a beats b beats c beats a). Their share says how far the judge is from having one order in mind."""
    beats: dict[Pair, bool] = {}
    for (a, b), margin in margins.items():
        if margin:
            beats[a, b], beats[b, a] = margin > 0, margin < 0
    circles = triples = 0
    for a, b, c in combinations(sorted({name for pair in beats for name in pair}), 3):
        around = {beats.get((a, b)), beats.get((b, c)), beats.get((c, a))}
        if None not in around:
            triples += 1
            circles += len(around) == 1
    return circles, triples


async def play(
    ids: Sequence[str],
    matches: Schedule,
    ask: Callable[[list[Match]], Awaitable[list[JudgeResult]]],
    weighing: Weighing,
) -> list[JudgeResult]:
    """All that is said when `matches` are played, and then best and worst meet in both orders; where that
    makes another the best or worst, so does that one."""
    results: list[JudgeResult] = []
    asked: set[Match] = set()
    now = next(matches, [])
    while now:
        asked.update(now)
        results += await ask(now)
        scores = settle(ids, results, weighing).scores
        now = _after(matches, scores) or [match for match in _extremes(scores) if match not in asked]
    return results


def _after(matches: Schedule, scores: Scores) -> list[Match]:
    try:
        return matches.send(scores)
    except StopIteration:
        return []


def _extremes(scores: Scores) -> list[Match]:
    """Best and worst, in both orders; ranked as `prefgen.pairing` does."""
    ranked = sorted(scores, key=lambda name: (-scores[name], name))
    return [(ranked[0], ranked[-1]), (ranked[-1], ranked[0])] if len(ranked) > 1 else []


def _ring(order: list[str], laps: int) -> Schedule:
    yield _lap(order, laps)


def _lap(order: list[str], laps: int = 1) -> list[Match]:
    """In lap k everybody is shown before the one k places on; K - 1 laps are a round robin in both orders."""
    size = len(order)
    steps = range(1, min(laps, size - 1) + 1)
    return [(order[place], order[(place + step) % size]) for step in steps for place in range(size)]


def _swiss(order: list[str], rounds: int) -> Schedule:
    """The lap comes first because it ties everybody together: scores of strangers could not be compared."""
    now, played = _lap(order), list[Match]()
    for _ in range(rounds):
        played += now
        scores = yield now
        now = _neighbours(_ranked(order, scores), played)
    yield now


def _ranked(order: list[str], scores: Scores) -> list[str]:
    return sorted(order, key=lambda name: -scores.get(name, 0.0))


def _neighbours(ranked: list[str], played: list[Match]) -> list[Match]:
    """Each with the nearest below it, rather one it has not met. Of an odd number the middle one, who is
    neither best nor worst, sits out."""
    left, now = ranked.copy(), list[Match]()
    met = {frozenset(match) for match in played}
    if len(left) % 2:
        del left[len(left) // 2]
    while left:
        name = left.pop(0)
        other = next((other for other in left if frozenset((name, other)) not in met), left[0])
        left.remove(other)
        now.append(_balanced(name, other, played + now))
    return [match for match in now if match not in played]


def _balanced(a: str, b: str, played: list[Match]) -> Match:
    """In the order they have not met in, else with the one first who has been so less often."""

    def lead(name: str) -> int:
        return sum((name == first) - (name == second) for first, second in played)

    if (a, b) in played or (b, a) in played:
        return (a, b) if (b, a) in played else (b, a)
    return (a, b) if lead(a) <= lead(b) else (b, a)


def _knockout(order: list[str]) -> Schedule:
    """By the better standing one goes on among the best, by the worse among the worst. Who has no opponent
    in a round goes on in both."""
    best, worst, played = order, order, list[Match]()
    while len(best) > 1 or len(worst) > 1:
        now = list[Match]()
        for a, b in dict.fromkeys(_paired(best) + _paired(worst)):  # In the first round they are the same.
            now.append(_balanced(a, b, played + now))
        scores = yield now
        played += now
        best, worst = _on(best, scores, 0), _on(worst, scores, 1)


def _paired(names: list[str]) -> list[Match]:
    return list(zip(names[::2], names[1::2], strict=False))


def _on(names: list[str], scores: Scores, side: int) -> list[str]:
    """The better (side 0) or the worse of every match; who sat out comes first, and so plays next."""
    return names[len(names) // 2 * 2 :] + [_ranked([*pair], scores)[side] for pair in _paired(names)]

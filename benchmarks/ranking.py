"""Who meets whom: calls spent and pairs found, for every way to rank the candidates of a prompt.

The judge is synthetic: qualities are N(0, 1), and its log-odds that the response shown first is better are
1.6 per standard deviation of quality between the two, plus 0.5 for being first, plus an N(0, 1) opinion of
the two that is the same in both orders. Schedules, scores and pairs are made by the functions of `generate`.
Calls include those that let best meet worst in both orders. `gap`: true quality of chosen minus rejected, in
standard deviations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from judges.ranking import Match, Meetings, cycles, play, round_robin, schedule
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult, Judgment, Provenance
from prefgen.messages import user
from prefgen.pairing import PairingRule, pair_up
from prefgen.prompt import Prompt
from prefgen.verdicts import ALIKE, Standing, settle

SLOPE, SLOT, OPINION = 1.6, 0.5, 1.0
TRIALS = {8: 1500, 16: 600}
PROMPT = Prompt("p", user("?"))
TOLD = Provenance("synthetic", "", "", order="ab")
RULE = PairingRule(min_confidence=0.5)


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    meetings: Meetings
    rounds: int = 1
    both_orders: bool = True


WAYS = (
    Way("round robin, both orders", "round-robin"),
    Way("round robin, one order", "round-robin", both_orders=False),
    Way("ring", "ring"),
    Way("ring, 2 laps", "ring", 2),
    Way("knockout", "knockout"),
    Way("swiss", "swiss"),
    Way("swiss, 2 rounds", "swiss", 2),
)


class Judge:
    """One prompt's `size` candidates and what the judge thinks of them."""

    def __init__(self, size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.candidates = [
            Candidate("p", f"response {number}", "synthetic", number) for number in range(size)
        ]
        self.ids = [candidate.id for candidate in self.candidates]
        self.quality = dict(zip(self.ids, random.normal(size=size).tolist(), strict=True))
        above = np.triu(random.normal(0, OPINION, (size, size)), 1)
        self._opinion = above - above.T

    async def ask(self, matches: Sequence[Match]) -> list[JudgeResult]:
        return [Judgment("p", a, b, self._log_odds(a, b), TOLD) for a, b in matches]

    def _log_odds(self, first: str, second: str) -> float:
        content = SLOPE * (self.quality[first] - self.quality[second])
        return content + SLOT + float(self._opinion[self.ids.index(first), self.ids.index(second)])

    async def results(self, way: Way) -> list[JudgeResult]:
        if way.meetings == "round-robin":
            return await self.ask(round_robin(self.ids, way.both_orders))
        return await play(self.ids, schedule(way.meetings, self.ids, way.rounds, 0), self.ask, ALIKE)


@dataclass(frozen=True, slots=True)
class Trial:
    """`gap`: None where no pair came out."""

    calls: int
    gap: float | None
    best: bool
    standing: Standing


def trial(way: Way, size: int, seed: int) -> Trial:
    judge = Judge(size, seed)
    results = asyncio.run(judge.results(way))
    standing = settle(judge.ids, results)
    pairs = pair_up(PROMPT, judge.candidates, standing, RULE).preferences
    if not pairs:
        return Trial(len(results), None, False, standing)
    chosen, rejected = (judge.quality[side.id] for side in (pairs[0].chosen, pairs[0].rejected))
    return Trial(len(results), chosen - rejected, chosen == max(judge.quality.values()), standing)


@dataclass(frozen=True)
class Line:
    """What a way came to over many prompts."""

    trials: Sequence[Trial]

    @cached_property
    def gaps(self) -> list[float]:
        return [item.gap for item in self.trials if item.gap is not None]

    @property
    def calls(self) -> float:
        return float(np.mean([item.calls for item in self.trials]))

    @property
    def most(self) -> int:
        return max(item.calls for item in self.trials)

    @property
    def gap(self) -> float:
        """A prompt without a pair counts as nothing gained."""
        return sum(self.gaps) / len(self.trials)


def run(way: Way, size: int, trials: int) -> Line:
    return Line([trial(way, size, seed) for seed in range(trials)])


def main() -> None:
    for size, trials in TRIALS.items():
        print(f"{size} candidates, {trials} prompts")
        print("                            calls  most  pairs  right    gap  of all  best chosen")
        lines = {way: run(way, size, trials) for way in WAYS}
        full = lines[WAYS[0]]
        for way, line in lines.items():
            right = np.mean([gap > 0 for gap in line.gaps])
            best = np.mean([item.best for item in line.trials])
            print(
                f"{way.name:26}{line.calls:7.2f}{line.most:6d}{len(line.gaps) / trials:7.1%}{right:7.1%}"
                f"{line.gap:7.3f}{line.gap / full.gap:8.1%}{best:13.1%}"
            )
        circles, triples = np.sum([cycles(item.standing.margins) for item in full.trials], axis=0)
        print(f"{circles / triples:.1%} of the triples of a round robin go in a circle\n")


if __name__ == "__main__":
    main()

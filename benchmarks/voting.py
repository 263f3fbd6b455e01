"""Adaptive voting: votes saved and accuracy lost against a fixed number of votes, on a synthetic judge.

Each item has its own probability that one vote is right, drawn from Beta(8, 2). The votes are stopped by the
function the judges use. Accuracy is the share of items whose majority is right; a drawn majority counts half.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from judges.voting import LEAD, votes_wanted

ITEMS = 20_000
SHAPE = (8.0, 2.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`accuracy` in 0..1; `votes` per item."""

    accuracy: float
    votes: float


def right(votes: list[float | None]) -> float:
    """1 where the majority is right, a half where it is drawn."""
    lead = sum(2 * vote - 1 for vote in votes if vote is not None)
    return 1.0 if lead > 0 else 0.5 if lead == 0 else 0.0


def simulate(items: int, most: int, needed: int, seed: int = 0) -> tuple[Outcome, Outcome]:
    """All `most` votes, and votes stopped at a lead of `needed`: the same votes for both."""
    draw = random.Random(seed)
    fixed = stopped = 0.0
    drawn = 0
    for _ in range(items):
        chance = draw.betavariate(*SHAPE)
        votes: list[float | None] = [float(draw.random() < chance) for _ in range(most)]
        taken = 0
        while wanted := votes_wanted(votes[:taken], most, needed):
            taken += wanted
        fixed += right(votes)
        stopped += right(votes[:taken])
        drawn += taken
    return Outcome(fixed / items, most), Outcome(stopped / items, drawn / items)


def main() -> None:
    print(f"{ITEMS} items, one vote right with probability Beta{SHAPE}")
    print("  most  lead     votes  saved   accuracy  all votes  lost (points)")
    for most in (5, 9, 15):
        for needed in sorted({2, LEAD, 4}):
            fixed, stopped = simulate(ITEMS, most, needed)
            saved, lost = 1 - stopped.votes / most, 100 * (fixed.accuracy - stopped.accuracy)
            chosen = "  default" if needed == LEAD else ""
            print(
                f"{most:6d}{needed:6d}{stopped.votes:10.2f}{saved:7.1%}{stopped.accuracy:11.3f}"
                f"{fixed.accuracy:11.3f}{lost:15.2f}{chosen}"
            )


if __name__ == "__main__":
    main()

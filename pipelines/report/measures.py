"""What is measured of a stream of pairs and judgments, in memory that does not grow with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from pipelines.charts import Tally
from prefgen.judgment import JudgeResult, Judgment

CHOSEN, REJECTED = 0, 1


class Moments:
    """Count, mean and standard deviation (ddof 1) of a stream, by Welford's update."""

    def __init__(self) -> None:
        self.n, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self._squares += step * (value - self.mean)

    @property
    def sd(self) -> float | None:
        return sqrt(self._squares / (self.n - 1)) if self.n > 1 else None


@dataclass(slots=True)
class Lengths:
    """Chosen and rejected responses, in characters."""

    sides: tuple[Moments, Moments] = field(default_factory=lambda: (Moments(), Moments()))
    tally: Tally = field(default_factory=lambda: Tally(1, series=2, most=16))
    longer: int = 0
    shorter: int = 0

    def add(self, chosen: int, rejected: int) -> None:
        for side, length in ((CHOSEN, chosen), (REJECTED, rejected)):
            self.sides[side].add(length)
            self.tally.add(length, side)
        self.longer += chosen > rejected
        self.shorter += chosen < rejected

    @property
    def cohens_d(self) -> float | None:
        """Difference of the means over the root mean square of the two standard deviations."""
        chosen, rejected = self.sides
        pooled = sqrt(((chosen.sd or 0.0) ** 2 + (rejected.sd or 0.0) ** 2) / 2)
        return (chosen.mean - rejected.mean) / pooled if pooled else None


@dataclass(slots=True)
class Position:
    """`lean`: b = (z_ab - z_ba) / 2 in log-odds, over questions asked in both orders; `agree` of them
    had one verdict. `first` of the `decided` judgments went to the response shown first."""

    lean: Moments = field(default_factory=Moments)
    leans: Tally = field(default_factory=lambda: Tally(1 / 64))
    agree: int = 0
    decided: int = 0
    first: int = 0

    def add(self, results: Iterable[JudgeResult]) -> None:
        """What was said about one prompt's candidates."""
        asked: dict[tuple[str | None, ...], dict[str, float]] = defaultdict(dict)
        for item in results:
            told = item.provenance
            if not isinstance(item, Judgment) or item.b_id is None or told.order is None:
                continue
            self.decided += item.log_odds != 0
            self.first += item.log_odds > 0 if told.order == "ab" else item.log_odds < 0
            asked[item.a_id, item.b_id, told.judge, told.principle][told.order] = item.log_odds
        for both in asked.values():
            if len(both) == 2:
                lean = (both["ab"] - both["ba"]) / 2
                self.lean.add(lean)
                self.leans.add(lean)
                self.agree += _sign(both["ab"]) == _sign(both["ba"])


@dataclass(slots=True)
class Planted:
    """Known pairs of one kind: how many were tried, and for how many the known answer held."""

    tried: int = 0
    held: int = 0
    margins: Moments = field(default_factory=Moments)

    def add(self, row: Mapping[str, Any]) -> None:
        self.tried += 1
        self.held += row["correct"]
        if row["margin"] is not None:
            self.margins.add(row["margin"])


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)

"""How far several views of the same pairs agree: judges among themselves, principles among themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

import numpy as np

from judges.agreement import VERDICTS, agreement, kappa
from judges.intervals import Array
from prefgen.judgment import JudgeResult, Judgment, Provenance

Pair = tuple[str, str]
Margins = Mapping[Pair, float]
VERDICT = "the verdict"
"""The view of all together, which decided."""
_K = len(VERDICTS)
_A, _B, _TIE = range(_K)
_ROUNDING = 1e-9


def margins_by(
    results: Iterable[JudgeResult], name: Callable[[Provenance], str | None]
) -> dict[str, dict[Pair, float]]:
    """Log-odds that the first of a pair beats the second, by view and pair (ids in order): the mean of what
    was said of the two, or the difference of what was said of each alone."""
    sides: dict[str, dict[Pair, list[float]]] = defaultdict(lambda: defaultdict(list))
    alone: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in results:
        view = name(item.provenance)
        if view is None or not isinstance(item, Judgment):
            continue
        if item.b_id is None:
            alone[view][item.a_id].append(item.log_odds)
        elif item.a_id < item.b_id:
            sides[view][item.a_id, item.b_id].append(item.log_odds)
        else:
            sides[view][item.b_id, item.a_id].append(-item.log_odds)
    found = {view: {pair: fmean(told) for pair, told in pairs.items()} for view, pairs in sides.items()}
    for view, said in alone.items():
        means = {one: fmean(told) for one, told in said.items()}
        pairs = combinations(sorted(means), 2)
        found.setdefault(view, {}).update({(a, b): means[a] - means[b] for a, b in pairs})
    return found


@dataclass(frozen=True, slots=True)
class Between:
    """Two views over the `n` pairs both have a verdict on. `same`: share of them with one verdict, ties too;
    `opposed`: share of the `decided` pairs, on which neither has a tie, with opposite verdicts, None where
    there is no such pair; `kappa`: Cohen's, None where undefined."""

    one: str
    other: str
    n: int
    same: float
    decided: int
    opposed: float | None
    kappa: float | None


@dataclass(slots=True)
class Views:
    """Counts of who said what together with whom; memory grows with the number of views alone."""

    names: list[str] = field(default_factory=list)
    _table: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, margins: Mapping[str, Margins]) -> None:
        """The verdicts on one prompt's pairs."""
        self._make_room(margins)
        pairs = {
            pair: place for place, pair in enumerate({pair for told in margins.values() for pair in told})
        }
        said = np.zeros((_K * len(self.names), len(pairs)))
        for name, told in margins.items():
            first = _K * self.names.index(name)
            for pair, margin in told.items():
                said[first + _code(margin), pairs[pair]] = 1
        self._table += said @ said.T

    def _make_room(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self.names]
        if new:
            self.names += new
            self._table = np.pad(self._table, (0, _K * len(new)))

    def between(self, one: str, other: str) -> Between | None:
        """None where the two have no pair in common."""
        row, column = (_K * self.names.index(name) for name in (one, other))
        table = self._table[row : row + _K, column : column + _K]
        n = int(table.sum())
        if not n:
            return None
        opposed = table[_A, _B] + table[_B, _A]
        decided = int(table[_A, _A] + table[_B, _B] + opposed)
        told = float(kappa(table[None])[0])
        return Between(
            *(one, other, n, float(agreement(table[None])[0]), decided),
            opposed=float(opposed / decided) if decided else None,
            kappa=told if np.isfinite(told) else None,
        )

    def all_between(self) -> list[Between]:
        """Of every two, those that agree least first."""
        found = (self.between(*two) for two in combinations(self.names, 2))
        return sorted((item for item in found if item), key=lambda item: (item.same, item.one, item.other))

    def among(self) -> list[Between]:
        """The same without the verdict, which every view had a part in."""
        return [item for item in self.all_between() if VERDICT not in (item.one, item.other)]


def _code(margin: float) -> int:
    return _TIE if abs(margin) < _ROUNDING else _A if margin > 0 else _B

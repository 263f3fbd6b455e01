"""How far what was chosen differs on the outside from what was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from judges.intervals import Array, Estimate, Statistic, bootstrap, weighted_mean
from prefgen.surface import Surface

FEATURES = tuple(field.name for field in fields(Surface))


@dataclass(frozen=True, slots=True)
class Effect:
    """Means of the two sides; `d`: Cohen's d, None where no response has any; `more`: share of the pairs
    whose chosen side has more, of those that differ."""

    chosen: float
    rejected: float
    d: Estimate | None
    more: Estimate | None


def cohens_d(chosen: Array, rejected: Array) -> Statistic:
    """Difference of the means over the root mean square of the two standard deviations (Cohen 1988), as a
    statistic for `bootstrap`; NaN where nothing varies. Both of shape (n,)."""

    def statistic(weights: Array) -> Array:
        total = weights.sum(axis=1)
        moments = [(weights @ side / total, weights @ side**2 / total) for side in (chosen, rejected)]
        (mean, square), (other, other_square) = moments
        variance = ((square - mean**2) + (other_square - other**2)) / 2 * total / (total - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            d: Array = np.where(variance > 1e-12, (mean - other) / np.sqrt(variance), np.nan)
        return d

    return statistic


def effects(
    chosen: Array, rejected: Array, clusters: Sequence[object], *, seed: int = 0
) -> dict[str, Effect]:
    """The effect of each surface feature. `chosen`, `rejected`: counts in the order of `FEATURES`, shape
    (n, 5), at least two pairs; `clusters`: the prompt of each pair."""
    return {
        name: _effect(chosen[:, place], rejected[:, place], clusters, seed)
        for place, name in enumerate(FEATURES)
    }


def _effect(chosen: Array, rejected: Array, clusters: Sequence[object], seed: int) -> Effect:
    differs = np.flatnonzero(chosen != rejected)
    more = weighted_mean((chosen > rejected)[differs].astype(np.float64))
    return Effect(
        float(chosen.mean()),
        float(rejected.mean()),
        bootstrap(cohens_d(chosen, rejected), clusters, seed=seed),
        bootstrap(more, [clusters[place] for place in differs], seed=seed) if len(differs) else None,
    )

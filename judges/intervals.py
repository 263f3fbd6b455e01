"""How sure a number is: bootstrap over prompts, and exact bounds of a rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""From weights of the observations, shape (resamples, n), to one value a resample; NaN where undefined."""
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval, both in the value's own unit."""

    value: float
    ci: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "ci": list(self.ci)}


def bootstrap(
    statistic: Statistic,
    clusters: Sequence[object],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """The statistic of all observations, with an expanded percentile interval over resampled clusters.

    `clusters`: one name an observation, such as its prompt; whole clusters are drawn, since observations of
    one prompt are alike. None where the statistic is undefined on the data. Resamples on which it is
    undefined are left out.
    """
    _, place = np.unique(np.array([str(name) for name in clusters]), return_inverse=True)
    value = float(statistic(np.ones((1, len(place))))[0]) if len(place) else float("nan")
    if not np.isfinite(value):
        return None
    count = int(place.max()) + 1
    random = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        weights = random.multinomial(count, np.full(count, 1 / count), size)[:, place]
        drawn.append(statistic(weights.astype(np.float64)))
    values = np.concatenate(drawn)
    tail = _expanded_tail(count, level)
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Estimate(value, (float(low), float(high)))


def _expanded_tail(clusters: int, level: float) -> float:
    """The share of resamples to leave out on each side: Φ(-√(C / (C - 1)) · t), t with C - 1 degrees of
    freedom. Without it the interval is too narrow for few clusters (Hesterberg 2015, arXiv 1411.5279).
    """
    from scipy.special import ndtr, stdtrit

    if clusters < 2:
        return (1 - level) / 2
    return float(ndtr(np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, (1 - level) / 2)))


def weighted_mean(values: Array) -> Statistic:
    """The mean as a statistic for `bootstrap`; NaN for no observation."""

    def statistic(weights: Array) -> Array:
        total = weights.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean: Array = np.where(total > 0, weights @ values / total, np.nan)
        return mean

    return statistic


def clopper_pearson_upper(errors: int, n: int, delta: float) -> float:
    """The largest error rate under which `errors` or fewer of `n` still have probability `delta`.

    One-sided exact bound (Clopper and Pearson 1934); 1 where all were errors or n = 0.
    """
    from scipy.special import betaincinv

    return 1.0 if errors >= n else float(betaincinv(errors + 1, n - errors, 1 - delta))


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a rate."""
    tail = (1 - level) / 2
    return 1 - clopper_pearson_upper(n - successes, n, tail), clopper_pearson_upper(successes, n, tail)

"""Win rate of a model over a baseline, from one preference a prompt.

Pure functions of arrays. Definitions of win rate, standard error, discrete and length-controlled win rate
follow AlpacaEval (Dubois et al. 2024, arXiv 2404.04475), the last without its per-instruction difficulty
unless difficulties are given. Rates are in percent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_RESAMPLES = 10_000


def win_rate(preference: Array) -> float:
    """100 · mean. `preference`: probability, 0..1, that the model beats the baseline, shape (n,)."""
    return 100 * float(preference.mean())


def standard_error(preference: Array) -> float:
    """100 · sd / √n with n - 1 degrees of freedom; NaN for fewer than two prompts."""
    if len(preference) < 2:
        return float("nan")
    return 100 * float(preference.std(ddof=1)) / float(np.sqrt(len(preference)))


def discrete_win_rate(preference: Array) -> float:
    """Above a half is a win, a half is half a win."""
    return 100 * float((preference > 0.5).mean() + 0.5 * (preference == 0.5).mean())


def bootstrap_interval(
    preference: Array, clusters: Sequence[str] | None = None, *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the win rate over 10,000 resamples of prompts (whole clusters, if given)."""
    names = range(len(preference)) if clusters is None else clusters
    _, place = np.unique(np.array(names), return_inverse=True)
    sums = np.bincount(place, preference)
    sizes = np.bincount(place).astype(np.float64)
    random = np.random.default_rng(seed)
    rates = []
    for _ in range(_RESAMPLES):
        draw = random.integers(0, len(sums), len(sums))
        rates.append(100 * sums[draw].sum() / sizes[draw].sum())
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def length_controlled_win_rate(
    preference: Array, length_model: Array, length_baseline: Array, difficulty: Array | None = None
) -> float:
    """The win rate a logistic regression predicts for equal lengths.

    Regresses the preference on a constant, tanh(d / sd(d)) with d = length_model - length_baseline (sd with
    n - 1 degrees of freedom), and the difficulty where given; returns the mean predicted rate at d = 0.
    """
    difference = length_model - length_baseline
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    length = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    columns = [np.ones_like(length), length] + ([difficulty] if difficulty is not None else [])
    design = np.stack(columns, axis=1)
    weights = logistic_fit(design, preference)
    design[:, 1] = 0.0
    return 100 * float(_sigmoid(design @ weights).mean())


def logistic_fit(design: Array, target: Array, ridge: float = 1e-6) -> Array:
    """Weights of a logistic regression on targets in 0..1, by Newton's method.

    `design`: shape (n, k); returns shape (k,). The tiny ridge keeps separable data finite.
    """
    weights = np.zeros(design.shape[1])
    penalty = ridge * np.eye(design.shape[1])
    for _ in range(100):
        rate = _sigmoid(design @ weights)
        gradient = design.T @ (rate - target) + ridge * weights
        curvature = (design.T * (rate * (1 - rate))) @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        # A step longer than this overshoots where the curve is flat.
        weights = weights - step * min(1.0, 5.0 / max(5.0, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-12:
            break
    return weights


def _sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), 1 - 1 / (1 + np.exp(-np.abs(x))))

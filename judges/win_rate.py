"""Win rate of a model over a baseline, from one preference a prompt.

Pure functions of arrays. Definitions of win rate, standard error, discrete and length-controlled win rate
follow AlpacaEval (Dubois et al. 2024, arXiv 2404.04475), the last without its per-instruction difficulty
unless difficulties are given. Rates are in percent.
"""

from __future__ import annotations

import numpy as np

from judges.intervals import Array, Statistic


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


def length_controlled_win_rate(
    preference: Array, length_model: Array, length_baseline: Array, difficulty: Array | None = None
) -> float:
    """The win rate a logistic regression predicts for equal lengths; see `length_control`."""
    control = length_control(preference, length_model, length_baseline, difficulty)
    return float(control(np.ones((1, len(preference))))[0])


def length_control(
    preference: Array, length_model: Array, length_baseline: Array, difficulty: Array | None = None
) -> Statistic:
    """The length-controlled win rate as a statistic for `bootstrap`.

    Regresses the preference on a constant, tanh(d / sd(d)) with d = length_model - length_baseline (sd with
    n - 1 degrees of freedom), and the difficulty where given; the mean predicted rate at d = 0.
    """
    difference = length_model - length_baseline
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    length = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    return controlled_rate(preference, length[:, None], None if difficulty is None else difficulty[:, None])


def controlled_rate(preference: Array, controlled: Array, kept: Array | None = None) -> Statistic:
    """The mean rate a logistic regression predicts where all `controlled` features are 0.

    `controlled`, `kept`: features, shape (n, k) each; a constant is added.
    """
    neutral = np.ones((len(preference), 1)) if kept is None else np.column_stack([np.ones(len(kept)), kept])
    design = np.hstack([neutral, controlled])

    def statistic(weights: Array) -> Array:
        fitted = logistic_fits(design, preference, weights)[:, : neutral.shape[1]]
        rates = _sigmoid(fitted @ neutral.T)
        mean: Array = 100 * (weights * rates).sum(axis=1) / weights.sum(axis=1)
        return mean

    return statistic


def logistic_fit(design: Array, target: Array, ridge: float | Array = 1e-6) -> Array:
    """Coefficients of a logistic regression, shape (k,); see `logistic_fits`."""
    fitted: Array = logistic_fits(design, target, np.ones((1, len(target))), ridge)[0]
    return fitted


def logistic_fits(design: Array, target: Array, weights: Array, ridge: float | Array = 1e-6) -> Array:
    """Logistic regressions on targets in 0..1 by Newton's method, one for each row of weights.

    `design`: shape (n, k); `weights`: shape (resamples, n); returns shape (resamples, k). The tiny ridge
    keeps separable data finite.
    """
    n, k = design.shape
    squares = (design[:, :, None] * design[:, None, :]).reshape(n, k * k)
    fitted = np.zeros((len(weights), k))
    for _ in range(100):
        rate = _sigmoid(fitted @ design.T)
        gradient = (weights * (rate - target)) @ design + ridge * fitted
        curvature = ((weights * rate * (1 - rate)) @ squares).reshape(-1, k, k) + ridge * np.eye(k)
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        # A step longer than this overshoots where the curve is flat.
        longest = np.abs(step).max(axis=1, keepdims=True)
        fitted = fitted - step * np.minimum(1.0, 5.0 / np.maximum(5.0, longest))
        if float(longest.max()) < 1e-10:
            break
    return fitted


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    rate: Array = np.where(x >= 0, 1, small) / (1 + small)
    return rate

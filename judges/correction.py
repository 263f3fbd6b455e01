"""A judge's win rate put right by a few human labels.

Pure functions of arrays; rates are shares, 0..1. The labelled prompts must be a random part of all prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from judges.intervals import Array, Estimate
from judges.significance import cluster_sums

LEAST_SKILL = 0.2


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """`weight`: how much the judge is listened to, 0..1; `effective_labels`: human labels that would be as
    precise without a judge."""

    estimate: Estimate
    weight: float
    effective_labels: float


def prediction_powered(
    human: Array,
    judged: Array,
    rest: Array,
    clusters: Sequence[object] | None = None,
    level: float = 0.95,
) -> PredictionPowered | None:
    """The human win rate by PPI++ (Angelopoulos, Duchi, Zrnic 2023, arXiv 2311.01453).

    θ = λ · mean(rest) + mean(human - λ · judged), with the λ of least variance, kept within 0..1.
    `human`, `judged`: preferences of people and of the judge on the n labelled prompts; `rest`: the judge's
    on the N others; `clusters`: n + N names, the labelled first; prompts of one cluster are alike. None for
    fewer than two labels.
    """
    n, rest_n = len(human), len(rest)
    if n < 2:
        return None
    weight = _weight(human, judged, rest)
    value = float((human - weight * judged).mean() + (weight * rest.mean() if rest_n else 0.0))
    names = range(n + rest_n) if clusters is None else clusters
    variance = _variance(human - weight * judged, weight * rest, names)
    alone = _variance(human, np.zeros(rest_n), names)
    effective = n * alone / variance if variance > 0 else float(n)
    return PredictionPowered(Estimate(value, _student(value, variance, n - 1, level)), weight, effective)


def _weight(human: Array, judged: Array, rest: Array) -> float:
    """λ = cov(human, judged) / ((1 + n / N) · var(judge)), within 0..1."""
    if not len(rest):
        return 0.0
    spread = float(np.concatenate([judged, rest]).var(ddof=1))
    if spread == 0:
        return 0.0
    covariance = float(np.cov(human, judged)[0, 1])
    return min(1.0, max(0.0, covariance / ((1 + len(human) / len(rest)) * spread)))


def _variance(labelled: Array, rest: Array, clusters: Sequence[object]) -> float:
    """Of mean(labelled) + mean(rest), from what each prompt moves it by, summed within its cluster."""
    moves = [
        (part - part.mean()) / math.sqrt(len(part) * (len(part) - 1))
        if len(part) > 1
        else np.zeros(len(part))
        for part in (labelled, rest)
    ]
    return float((cluster_sums(np.concatenate(moves), clusters) ** 2).sum())


@dataclass(frozen=True, slots=True)
class RoganGladen:
    """`sensitivity`, `specificity`: how often the judge agrees where people say win, and where they say loss.
    `estimate` is None where the judge knows too little: sensitivity + specificity - 1 < 0.2."""

    estimate: Estimate | None
    sensitivity: float
    specificity: float


def rogan_gladen(
    raw: float, n: int, agreed_wins: float, wins: int, agreed_losses: float, losses: int, level: float = 0.95
) -> RoganGladen | None:
    """The win rate corrected for a judge of known errors (Rogan and Gladen 1978; Lee et al. 2025, arXiv
    2511.21140).

    θ = (raw + specificity - 1) / (sensitivity + specificity - 1), within 0..1. `raw`: the judge's win rate on
    `n` prompts without labels; of `wins` prompts that people call wins the judge calls `agreed_wins` so (a
    tie is half), and likewise for losses. For the interval half a count is added to both outcomes of all
    three, so that no error rate is held for exactly 0. None without wins, losses or prompts.
    """
    if not (n and wins and losses):
        return None
    sensitivity, specificity = agreed_wins / wins, agreed_losses / losses
    skill = sensitivity + specificity - 1
    if skill < LEAST_SKILL:
        return RoganGladen(None, sensitivity, specificity)
    value = min(1.0, max(0.0, (raw + specificity - 1) / skill))
    counts = ((raw * n, n), (agreed_wins, wins), (agreed_losses, losses))
    rates = [(count + 0.5) / (of + 1) for count, of in counts]
    variances = [rate * (1 - rate) / (of + 1) for rate, (_, of) in zip(rates, counts, strict=True)]
    return RoganGladen(Estimate(value, _fieller(rates, variances, level)), sensitivity, specificity)


def _fieller(rates: Sequence[float], variances: Sequence[float], level: float) -> tuple[float, float]:
    """All θ in 0..1 for which raw - (1 - specificity) (1 - θ) - sensitivity θ is 0 within its error.

    A symmetric interval would hold too much here: the denominator is an estimate too (Fieller 1954).
    """
    (raw, q1, q0), (v_raw, v1, v0) = rates, variances
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    above, skill = raw + q0 - 1, q1 + q0 - 1
    square = skill**2 - z2 * (v0 + v1)
    half = above * skill - z2 * v0
    root = half**2 - square * (above**2 - z2 * (v_raw + v0))
    if square <= 0 or root < 0:
        return 0.0, 1.0
    low, high = ((half + sign * math.sqrt(root)) / square for sign in (-1, 1))
    return min(1.0, max(0.0, low)), max(0.0, min(1.0, high))


def _student(value: float, variance: float, freedom: int, level: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    return max(0.0, value - reach), min(1.0, value + reach)

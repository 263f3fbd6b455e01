"""Whether probabilities mean what they say: expected calibration error, its noise floor, Brier score.

All take the confidence in the side a judge favours, 0.5 to 1, and whether people agree (1, 0; .5 where the
judge favours neither), so that it makes no difference which response is called a.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judges.intervals import Array

_BINS = 10
_SIMULATIONS = 200


@dataclass(frozen=True, slots=True)
class Bin:
    """`n` labels with mean confidence `confidence`; people agreed with the share `agreed` of them."""

    n: int
    confidence: float
    agreed: float


def favoured(log_odds: Array, human: Array) -> tuple[Array, Array]:
    """(confidence, agreed), shape (n,) each, of log-odds that a is better and people's 1 for a, 0 for b."""
    confidence = 1 / (1 + np.exp(-np.abs(np.clip(log_odds, -500, 500))))
    agreed = np.where(log_odds == 0, 0.5, np.where(log_odds > 0, human, 1 - human))
    return confidence, agreed


def reliability(confidence: Array, agreed: Array, level: Array | None = None) -> list[Bin]:
    """Ten bins of as good as equal size, by confidence; the points of a reliability diagram.

    `level`: shape (n,), what the judge itself distinguishes; where these are ten or fewer they are the bins.
    """
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(_BINS, len(confidence)))
    if level is not None and len(np.unique(level)) <= _BINS:
        parts = [np.flatnonzero(level == value) for value in np.unique(level)]
    return [
        Bin(len(part), float(confidence[part].mean()), float(agreed[part].mean()))
        for part in parts
        if len(part)
    ]


def calibration_error(confidence: Array, agreed: Array) -> float:
    """Expected calibration error over equal-mass bins: the mean distance of confidence and agreement."""
    told = reliability(confidence, agreed)
    return sum(item.n * abs(item.confidence - item.agreed) for item in told) / len(confidence)


def noise_floor(confidence: Array, *, seed: int = 0) -> float:
    """The mean calibration error of a perfectly calibrated judge with these confidences, by simulation: no
    measured error below it means anything."""
    random = np.random.default_rng(seed)
    simulated = (random.random((_SIMULATIONS, len(confidence))) < confidence).astype(np.float64)
    return float(np.mean([calibration_error(confidence, agreed) for agreed in simulated]))


def brier(confidence: Array, agreed: Array) -> float:
    """Mean squared distance of probability and outcome; half an agreement is either, half of the time."""
    return float((agreed * (1 - confidence) ** 2 + (1 - agreed) * confidence**2).mean())


def discrimination(confidence: Array, agreed: Array) -> float | None:
    """AUROC of confidence for agreement: does the judge know when it is right? None without both kinds, or
    where all are as confident."""
    right, wrong = confidence[agreed == 1], confidence[agreed == 0]
    if not len(right) or not len(wrong) or not np.ptp(np.append(right, wrong)):
        return None
    above = np.searchsorted(np.sort(wrong), right, "left") + np.searchsorted(np.sort(wrong), right, "right")
    return float(above.sum() / (2 * len(right) * len(wrong)))

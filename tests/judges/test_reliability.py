"""Whether probabilities mean what they say: by hand, and on judges of known calibration."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from judges.reliability import (
    brier,
    calibration_error,
    discrimination,
    favoured,
    noise_floor,
    reliability,
)


def judged(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds stated by a judge whose true log-odds are `sharpness` times smaller."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, n)
    human = (random.random(n) < 1 / (1 + np.exp(-true))).astype(np.float64)
    return true * sharpness, human


def test_two_bins_by_hand() -> None:
    confidence = np.array([0.6] * 5 + [0.9] * 5)
    agreed = np.array([1.0, 1, 1, 0, 0] + [1.0] * 4 + [0.0])
    # One label a bin in ten bins: |.6 - 1| and so on.
    assert calibration_error(confidence, agreed) == pytest.approx((3 * 0.4 + 2 * 0.6 + 4 * 0.1 + 0.9) / 10)
    told = reliability(np.repeat(confidence, 10), np.repeat(agreed, 10))
    assert sum(item.n for item in told) == 100
    assert [item.confidence for item in told] == pytest.approx([0.6] * 5 + [0.9] * 5)


def test_the_favoured_side_is_what_counts() -> None:
    confidence, agreed = favoured(np.array([2.0, -2.0, 0.0]), np.array([1.0, 1.0, 1.0]))
    assert confidence == pytest.approx([0.8808, 0.8808, 0.5], abs=1e-4)
    assert agreed.tolist() == [1.0, 0.0, 0.5]


def test_an_overconfident_judge_is_far_above_the_noise_floor() -> None:
    sure, right = favoured(*judged(1000, sharpness=3.0))
    assert calibration_error(sure, right) > 2 * noise_floor(sure)
    sure, right = favoured(*judged(1000, sharpness=1.0))
    assert calibration_error(sure, right) < 1.5 * noise_floor(sure)


def test_brier_and_auroc_as_scikit_learn() -> None:
    sure, right = favoured(*judged(300, 1.0, seed=2))
    assert brier(sure, right) == pytest.approx(brier_score_loss(right, sure), abs=1e-9)
    assert discrimination(sure, right) == pytest.approx(roc_auc_score(right, sure), abs=1e-9)


def test_a_judge_that_never_decides_has_the_score_of_a_coin() -> None:
    assert brier(np.full(4, 0.5), np.full(4, 0.5)) == 0.25


def test_few_levels_are_the_bins() -> None:
    confidence = np.array([0.9, 0.91, 0.92, 0.5, 0.5])  # Of one level each: folds differ a little.
    agreed = np.array([1.0, 1, 0, 0.5, 0.5])
    told = reliability(confidence, agreed, np.array([1.0, 1, 1, 0, 0]))
    assert [(item.n, item.agreed) for item in told] == [(2, 0.5), (3, pytest.approx(2 / 3))]


def test_equal_confidences_tell_nothing() -> None:
    assert discrimination(np.full(4, 0.7), np.array([1.0, 0, 1, 0])) is None
    assert discrimination(np.full(2, 0.7), np.ones(2)) is None

"""Thresholds of a cascade: by hand, and what is promised for all judges together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from judges.cascade import kept, select_cascade
from judges.selective import select


def test_the_second_judge_is_tested_on_what_the_first_left() -> None:
    """Of 400 labels the first judge is sure and right on 200, the second on half of the others."""
    sure_first, sure_second = np.arange(400) < 200, np.arange(400) % 2 == 0
    confidence = np.column_stack([np.where(sure_first, 0.9, 0.6), np.where(sure_second, 0.95, 0.55)])
    coin = np.arange(400) % 4 < 2
    correct = np.column_stack([sure_first | coin, sure_second | coin])
    first, second = select_cascade(confidence, correct, target=0.9, delta=0.1)
    assert (first.n, second.n) == (400, 200)
    assert first.selection is not None
    assert second.selection is not None
    assert (first.selection.n_kept, first.selection.threshold) == (200, 0.9)
    assert (second.selection.n_kept, second.selection.threshold) == (100, 0.95)
    assert first.selection.delta == second.selection.delta == 0.05
    assert kept([first, second]) == (300, 0)


def test_a_judge_that_keeps_nothing_leaves_all_to_the_next() -> None:
    coin, sure = np.arange(100) % 2 == 0, np.ones(100, bool)
    confidence = np.full((100, 2), 0.9)
    first, second = select_cascade(confidence, np.column_stack([coin, sure]), target=0.9, delta=0.1)
    assert first.selection is None
    assert second.n == 100
    assert kept([first, second]) == (100, 0)


def test_one_judge_is_no_cascade() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 500)
    correct = random.random(500) < confidence
    (only,) = select_cascade(confidence[:, None], correct[:, None], target=0.85, delta=0.1)
    assert only.selection == select(confidence, correct, target=0.85, delta=0.1)


@pytest.mark.parametrize("target", [0.85, 0.9])
def test_the_promise_holds_for_all_judges_together(target: float) -> None:
    """P(right | confidence c) = c for both judges, and their confidences are independent."""
    random = np.random.default_rng(2)
    delta, broken, draws = 0.1, 0, 400
    for _ in range(draws):
        confidence = random.uniform(0.5, 1, (500, 2))
        correct = random.random((500, 2)) < confidence
        first, second = select_cascade(confidence, correct, target=target, delta=delta)
        thresholds = [stage.selection.threshold if stage.selection else 1.0 for stage in (first, second)]
        reach = 1 - 2 * (1 - thresholds[0])
        shares = [2 * (1 - thresholds[0]), reach * 2 * (1 - thresholds[1])]
        if sum(shares) > 0:
            right = sum(
                share * (1 + threshold) / 2 for share, threshold in zip(shares, thresholds, strict=True)
            )
            broken += right / sum(shares) < target
    assert broken <= binom.ppf(0.999, draws, delta)

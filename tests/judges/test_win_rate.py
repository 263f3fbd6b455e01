"""Win rates against hand-worked values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judges.win_rate import (
    bootstrap_interval,
    discrete_win_rate,
    length_controlled_win_rate,
    logistic_fit,
    standard_error,
    win_rate,
)

FOUR = np.array([1.0, 0.5, 0.25, 0.75])


def test_rates_of_four_prompts() -> None:
    assert win_rate(FOUR) == pytest.approx(62.5)
    # Deviations from .625: .375, .125, .375, .125; squares sum to .3125; sd = sqrt(.3125 / 3).
    assert standard_error(FOUR) == pytest.approx(100 * math.sqrt(0.3125 / 3) / 2)
    assert discrete_win_rate(FOUR) == pytest.approx(100 * (2 + 0.5) / 4)


def test_one_prompt_has_no_standard_error() -> None:
    assert math.isnan(standard_error(np.array([1.0])))


def test_equal_lengths_leave_the_win_rate_as_it_is() -> None:
    lengths = np.full(4, 100.0)
    assert length_controlled_win_rate(FOUR, lengths, lengths) == pytest.approx(62.5, abs=1e-4)


def test_a_judge_that_only_counts_length_is_controlled_to_a_half() -> None:
    random = np.random.default_rng(1)
    difference = np.concatenate([random.normal(40, 20, 300), random.normal(-10, 20, 100)])
    preference = 1 / (1 + np.exp(-2 * np.tanh(difference / difference.std(ddof=1))))
    baseline = np.full(400, 200.0)
    assert win_rate(preference) > 55
    assert length_controlled_win_rate(preference, baseline + difference, baseline) == pytest.approx(
        50, abs=0.1
    )


def test_logistic_fit_of_a_two_by_two_table() -> None:
    # P(1 | x=0) = 1/4 and P(1 | x=1) = 3/4: intercept -ln 3, slope 2 ln 3.
    design = np.array([[1.0, 0.0]] * 4 + [[1.0, 1.0]] * 4)
    target = np.array([1.0, 0, 0, 0, 1, 1, 1, 0])
    assert logistic_fit(design, target, ridge=1e-12) == pytest.approx([-math.log(3), 2 * math.log(3)])


def test_separable_data_stay_finite() -> None:
    design = np.array([[1.0, -1.0], [1.0, 1.0]])
    assert np.isfinite(logistic_fit(design, np.array([0.0, 1.0]))).all()


def test_the_interval_covers_what_it_should() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for draw in range(60):
        low, high = bootstrap_interval((random.random(80) < 0.7).astype(float), seed=draw)
        covered += low <= 70 <= high
    assert 50 <= covered <= 60


def test_whole_clusters_are_drawn() -> None:
    preference = np.array([1.0] * 10 + [0.0] * 10)
    clusters = ["a"] * 10 + ["b"] * 10
    assert bootstrap_interval(preference, clusters) == (0.0, 100.0)
    low, high = bootstrap_interval(preference)
    assert 20 < low < 50 < high < 80

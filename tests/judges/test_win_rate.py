"""Win rates against hand-worked values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judges.win_rate import (
    discrete_win_rate,
    length_controlled_win_rate,
    logistic_fit,
    logistic_fits,
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


def test_difficulty_is_kept_when_length_is_set_equal() -> None:
    """Where lengths say nothing, the mean of the rates by difficulty is the win rate."""
    preference = np.array([0.9, 0.8, 0.4, 0.3])
    lengths, difficulty = np.full(4, 100.0), np.array([-1.0, -0.5, 0.5, 1.0])
    assert length_controlled_win_rate(preference, lengths, lengths, difficulty) == pytest.approx(60, abs=1e-4)


def test_length_control_against_statsmodels() -> None:
    import statsmodels.api as sm

    random = np.random.default_rng(2)
    ours, theirs = random.normal(300, 80, 200), random.normal(250, 60, 200)
    difficulty, preference = random.normal(0, 1, 200), random.random(200)
    difference = ours - theirs
    length = np.tanh(difference / difference.std(ddof=1))
    design = np.column_stack([np.ones(200), length, difficulty])
    fitted = sm.GLM(preference, design, family=sm.families.Binomial()).fit()
    equal = design * [1, 0, 1]
    found = length_controlled_win_rate(preference, ours, theirs, difficulty)
    assert found == pytest.approx(100 * fitted.predict(equal).mean(), abs=1e-5)


def test_weights_count_rows_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    design = np.column_stack([np.ones(30), random.normal(0, 1, 30)])
    target, times = random.random(30), random.integers(0, 4, (3, 30))
    fitted = logistic_fits(design, target, times.astype(np.float64))
    for row, counts in zip(fitted, times, strict=True):
        repeated = logistic_fit(np.repeat(design, counts, axis=0), np.repeat(target, counts))
        assert row == pytest.approx(repeated, abs=1e-8)

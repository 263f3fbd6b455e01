"""The clustered bootstrap against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from judges.intervals import bootstrap, weighted_mean


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    told = bootstrap(weighted_mean(values), range(400))
    assert told is not None
    assert told.value == pytest.approx(values.mean())
    error = values.std(ddof=1) / 20
    assert told.ci == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=error / 5
    )


def test_copies_of_an_observation_do_not_make_it_surer() -> None:
    values = np.random.default_rng(1).normal(0, 1, 50)
    once = bootstrap(weighted_mean(values), range(50))
    copied = bootstrap(weighted_mean(np.repeat(values, 4)), np.repeat(np.arange(50), 4).tolist())
    assert once is not None
    assert copied is not None
    assert copied.ci == pytest.approx(once.ci, rel=1e-9)


def test_few_observations_get_the_width_of_students_t() -> None:
    """Ten values: t of 9 is 2.262, and sd / √10 with n - 1, where the plain percentiles give 1.96 and n."""
    values = np.random.default_rng(2).normal(0, 1, 10)
    told = bootstrap(weighted_mean(values), range(10), resamples=20_000)
    assert told is not None
    width = 2 * 2.262 * values.std(ddof=1) / 10**0.5
    assert told.ci[1] - told.ci[0] == pytest.approx(width, rel=0.05)


def test_what_is_undefined_has_no_interval() -> None:
    assert bootstrap(weighted_mean(np.zeros(0)), []) is None
    assert bootstrap(lambda weights: np.full(len(weights), np.nan), range(5)) is None


def test_the_same_seed_draws_the_same_resamples() -> None:
    values = np.arange(20.0)
    first, second, other = (bootstrap(weighted_mean(values), range(20), seed=seed) for seed in (1, 1, 2))
    assert first == second != other

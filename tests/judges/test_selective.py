"""The selective guarantee: by hand, against the exact binomial, and over a thousand draws of labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from judges.intervals import clopper_pearson, clopper_pearson_upper
from judges.selective import FEWEST, select


@pytest.mark.parametrize(("errors", "n"), [(0, 30), (1, 50), (5, 100), (14, 200), (31, 400)])
def test_the_bound_is_where_so_few_errors_have_probability_delta(errors: int, n: int) -> None:
    assert binom.cdf(errors, n, clopper_pearson_upper(errors, n, 0.1)) == pytest.approx(0.1, abs=1e-9)


@pytest.mark.parametrize(("n", "most"), [(50, 1), (100, 5), (200, 14), (400, 31)])
def test_errors_allowed_for_ninety_percent(n: int, most: int) -> None:
    """The published table of calibration sizes for alpha = delta = .1."""
    assert clopper_pearson_upper(most, n, 0.1) <= 0.1 < clopper_pearson_upper(most + 1, n, 0.1)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (3, 10), (10, 10)])
def test_two_sided_interval_as_scipy(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_stops_at_the_first_failure() -> None:
    """100 sure labels with one error pass; the next 20 are all wrong; what follows would pass again."""
    confidence = np.concatenate([np.full(100, 0.99), np.full(20, 0.9), np.full(200, 0.8)])
    correct = np.concatenate([np.arange(100) > 0, np.zeros(20, bool), np.ones(200, bool)])
    found = select(confidence, correct, target=0.9, delta=0.1)
    assert found is not None
    assert (found.threshold, found.n_kept, found.n_errors) == (0.99, 100, 1)
    assert found.coverage == pytest.approx(100 / 320)
    assert found.upper_bound == pytest.approx(clopper_pearson_upper(1, 100, 0.1))


def test_abstains_when_no_threshold_passes() -> None:
    random = np.random.default_rng(0)
    assert select(random.random(200), random.random(200) < 0.7, target=0.9, delta=0.1) is None
    assert select([], [], target=0.9, delta=0.1) is None


def test_abstains_on_too_few_labels_however_good() -> None:
    assert select([0.9] * (FEWEST - 1), [True] * (FEWEST - 1), target=0.8, delta=0.1) is None
    assert select([0.9] * FEWEST, [True] * FEWEST, target=0.8, delta=0.1) is not None


def test_equal_confidences_are_kept_together() -> None:
    correct = np.arange(200) % 40 != 0
    found = select(np.ones(200), correct, target=0.9, delta=0.1)
    assert found is not None
    assert found.n_kept == 200


@pytest.mark.parametrize(("target", "delta"), [(1.0, 0.1), (0.9, 0.0), (0.0, 0.1)])
def test_refuses_what_cannot_be_promised(target: float, delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        select([0.9], [True], target=target, delta=delta)


def test_the_promise_holds_over_a_thousand_draws_of_labels() -> None:
    """Precision of what is kept, known exactly here, falls below the target in at most delta of the draws."""
    random = np.random.default_rng(1)
    target, delta, broken, kept = 0.9, 0.1, 0, []
    # P(right | confidence c) = c, c uniform on (.5, 1): precision above a threshold t is (1 + t) / 2.
    for _ in range(1000):
        confidence = random.uniform(0.5, 1, 1000)
        found = select(confidence, random.random(1000) < confidence, target=target, delta=delta)
        if found is not None:
            broken += (1 + found.threshold) / 2 < target
            kept.append(found.coverage)
    # Draws are independent: more than this has probability .001 where the true rate is delta.
    assert broken <= binom.ppf(0.999, 1000, delta)
    assert broken > 0  # It is no promise of something weaker.
    assert len(kept) > 500
    assert np.mean(kept) < 0.4  # The best threshold, .8, keeps 40%.

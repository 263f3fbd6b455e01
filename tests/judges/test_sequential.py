"""Intervals that hold at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judges.sequential import confidence_sequence, first_clear, log_capital


def test_the_first_bets_by_hand() -> None:
    # λ_1 = √(2 ln 40 / (.25 · 1 · ln 2)) = 6.53, at m = .5 held to .5 / .5 = 1: one win multiplies by 1.5.
    # λ_2 is held to 1 too: a second win makes 2.25. The bettor starts with half the money.
    capital = log_capital(np.array([1.0, 1.0]), np.array([0.5]))
    assert capital[:, 0] == pytest.approx([math.log(0.75), math.log(1.125)])


def test_losses_make_the_other_bettor_rich() -> None:
    wins = log_capital(np.ones(30), np.array([0.5]))
    assert log_capital(np.zeros(30), np.array([0.5])) == pytest.approx(wins)


def test_wins_only_are_clear_after_few() -> None:
    # Half of 1.5^k reaches 20 at k = 10 (28.8; at 9: 19.2), and bounds are rounded outwards.
    bounds = confidence_sequence(np.ones(12))
    assert first_clear(bounds) == 10
    assert (bounds[:, 1] == 1).all()


def test_bounds_never_widen() -> None:
    bounds = confidence_sequence(np.random.default_rng(1).random(200))
    assert (np.diff(bounds[:, 0]) >= 0).all()
    assert (np.diff(bounds[:, 1]) <= 0).all()
    assert bounds[-1, 0] < 0.5 < bounds[-1, 1]
    assert bounds[-1, 1] - bounds[-1, 0] < 0.2


def test_nothing_is_clear_of_a_mean_that_is_there() -> None:
    assert first_clear(confidence_sequence(np.tile([1.0, 0.0], 100))) is None


@pytest.mark.parametrize("soft", [False, True])
def test_looking_after_every_prompt_is_wrong_as_seldom_as_promised(soft: bool) -> None:
    """With no difference a test at every one of 300 looks finds one in 5% of the evaluations at most."""
    random = np.random.default_rng(6)
    values = random.random((400, 300))
    values = values if soft else (values < 0.5).astype(np.float64)
    limit = math.log(20)
    wrong = [bool((log_capital(row, np.array([0.5])) >= limit).any()) for row in values]
    assert np.mean(wrong) <= 0.06


def test_a_real_difference_is_found_long_before_the_end() -> None:
    random = np.random.default_rng(7)
    looks = [
        first_clear(confidence_sequence((random.random(500) < 0.7).astype(np.float64))) for _ in range(20)
    ]
    assert None not in looks
    assert np.median([look for look in looks if look]) < 150

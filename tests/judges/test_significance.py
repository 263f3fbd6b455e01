"""Tests of no difference, and how many prompts show one."""

from __future__ import annotations

import numpy as np
import pytest

from judges.significance import (
    cluster_sums,
    clustered_standard_error,
    detectable_difference,
    prompts_needed,
    sign_flip_test,
    sign_test,
)


def test_sign_test_by_hand() -> None:
    # Five above, one below, a tie: 2 · (C(6,5) + C(6,6)) / 2⁶ = 14 / 64.
    assert sign_test(np.array([0.1, 0.2, 0.3, 0.4, 0.5, -0.1, 0.0])) == pytest.approx(14 / 64)
    assert sign_test(np.zeros(5)) == 1


def test_sign_flips_by_hand() -> None:
    # Sums over all signs of 3, 2, 1: |sum| = 6 twice, of 8 patterns; seen 6.
    assert sign_flip_test(np.array([3.0, 2.0, 1.0])) == pytest.approx(2 / 8)
    # Seen 4 = 3 + 2 - 1: also 6 and -6, -4.
    assert sign_flip_test(np.array([3.0, 2.0, -1.0])) == pytest.approx(4 / 8)
    assert sign_flip_test(np.zeros(3)) == 1


def test_random_sign_flips_agree_with_all_of_them() -> None:
    differences = np.random.default_rng(2).normal(0.3, 1, 14)
    exact = sign_flip_test(differences)
    # A fifteenth difference of 0 changes nothing but that signs are drawn.
    assert sign_flip_test(np.append(differences, 0.0)) == pytest.approx(exact, abs=0.02)


def test_a_clear_difference_is_as_small_as_it_can_be_told() -> None:
    assert sign_flip_test(np.ones(40), resamples=999) == pytest.approx(1 / 1000)


def test_the_test_is_wrong_as_often_as_it_says() -> None:
    random = np.random.default_rng(4)
    p_values = [sign_flip_test(random.normal(0, 1, 12)) for _ in range(400)]
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.09


def test_clusters_count_once() -> None:
    values = np.array([1.0, 1, 1, 0, 0, 0])
    assert cluster_sums(values, ["x", "x", "y", "y", "z", "z"]).tolist() == [2, 1, 0]
    # Sums of deviations: 1, 0, -1; √(3 / 2 · 2) / 6.
    assert clustered_standard_error(values, ["x", "x", "y", "y", "z", "z"]) == pytest.approx(3**0.5 / 6)
    assert clustered_standard_error(values, range(6)) == pytest.approx(values.std(ddof=1) / 6**0.5)
    assert np.isnan(clustered_standard_error(values, ["x"] * 6))


def test_prompts_needed() -> None:
    # (1.95996 + .84162)² = 7.8489; · .25 / .05² = 784.9.
    assert prompts_needed(50, 5) == 785
    assert prompts_needed(50, 10) == 197
    # The difference that 785 such prompts find is 5 again.
    assert detectable_difference(50 / 785**0.5) == pytest.approx(5, abs=0.01)


def test_so_many_prompts_do_find_it_four_times_in_five() -> None:
    random = np.random.default_rng(5)
    needed = prompts_needed(0.5, 0.15)
    found = [sign_flip_test((random.random(needed) < 0.65) - 0.5, resamples=499) < 0.05 for _ in range(300)]
    assert 0.74 < np.mean(found) < 0.88

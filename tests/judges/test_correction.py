"""Corrections by human labels: hand-worked tables, and what they must do on simulated judges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judges.correction import PredictionPowered, RoganGladen, prediction_powered, rogan_gladen

HUMAN = np.array([1.0, 0.0, 1.0, 0.0])
JUDGE = np.array([0.8, 0.2, 0.6, 0.4])
REST = np.array([0.9, 0.7, 0.5, 0.3])


def powered(*arguments: object) -> PredictionPowered:
    found = prediction_powered(*arguments)  # type: ignore[arg-type]
    assert found is not None
    return found


def corrected(*arguments: float) -> RoganGladen:
    found = rogan_gladen(*arguments)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_prediction_powered_by_hand() -> None:
    found = powered(HUMAN, JUDGE, REST)
    # cov(human, judge) = (.5 · .3 + .5 · .3 + .5 · .1 + .5 · .1) / 3 = .4 / 3.
    # var of the eight judgments: mean .55; squares .0625 + .1225 + .0025 + .0225 + .1225 + .0225 + .0025 +
    # .0625 = .42, over 7 = .06. λ = (.4 / 3) / (2 · .06) = 10 / 9, kept at 1.
    assert found.weight == 1
    # mean(rest) = .6, mean(human - judge) = 0.
    assert found.estimate.value == pytest.approx(0.6)
    # human - judge = .2, -.2, .4, -.4: var .4 / 3, over 4; var(rest) = .2 / 3, over 4. t of 3 is 3.1824463.
    reach = 3.1824463 * math.sqrt((0.4 + 0.2) / 12)
    assert found.estimate.ci == (pytest.approx(max(0, 0.6 - reach)), pytest.approx(min(1, 0.6 + reach)))


def test_a_judge_that_knows_nothing_is_not_listened_to() -> None:
    found = powered(HUMAN, np.array([0.5, 0.5, 0.5, 0.5]), np.full(50, 0.5))
    assert (found.weight, found.estimate.value, found.effective_labels) == (0, 0.5, 4)


def test_a_judge_that_is_against_people_is_not_listened_to() -> None:
    assert powered(HUMAN, 1 - JUDGE, REST).weight == 0


def test_without_unlabelled_prompts_the_labels_stand_alone() -> None:
    found = powered(HUMAN, JUDGE, np.array([]))
    assert (found.weight, found.estimate.value) == (0, 0.5)


def test_one_label_says_nothing() -> None:
    assert prediction_powered(HUMAN[:1], JUDGE[:1], REST) is None


def test_prediction_powered_against_its_definition() -> None:
    """λ and variance as the paper writes them, on a random table."""
    random = np.random.default_rng(3)
    judge = random.random(500)
    human = (random.random(500) < 0.2 + 0.6 * judge).astype(np.float64)
    y, f, rest = human[:120], judge[:120], judge[120:]
    found = powered(y, f, rest)
    weight = np.cov(y, f)[0, 1] / ((1 + 120 / 380) * judge.var(ddof=1))
    assert found.weight == pytest.approx(weight)
    assert found.estimate.value == pytest.approx(weight * rest.mean() + (y - weight * f).mean())
    error = math.sqrt((y - weight * f).var(ddof=1) / 120 + weight**2 * rest.var(ddof=1) / 380)
    low, high = found.estimate.ci
    assert high - low == pytest.approx(2 * 1.9800999 * error)  # t of 119
    assert found.effective_labels == pytest.approx(y.var(ddof=1) / error**2)


def test_alike_prompts_widen_the_interval() -> None:
    y, f, rest = np.repeat(HUMAN, 5), np.repeat(JUDGE, 5), np.repeat(REST, 5)
    alone = powered(y, f, rest).estimate.ci
    together = powered(y, f, rest, [n // 5 for n in range(40)]).estimate.ci
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_rogan_gladen_by_hand() -> None:
    # sensitivity .8, specificity .9: θ = (.59 + .9 - 1) / .7 = .7.
    found = corrected(0.59, 1000, 80, 100, 90, 100)
    assert (found.sensitivity, found.specificity) == (0.8, 0.9)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.7)
    # Near the delta method's error: √(.59 · .41 / 1000 + .3² · .9 · .1 / 100 + .7² · .8 · .2 / 100) / .7.
    error = math.sqrt(0.59 * 0.41 / 1000 + 0.09 * 0.09 / 100 + 0.49 * 0.16 / 100) / 0.7
    low, high = found.estimate.ci
    assert low < 0.7 < high
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_the_ends_of_the_interval_are_where_the_errors_just_explain_the_raw_rate() -> None:
    found = corrected(0.59, 1000, 80, 100, 90, 100)
    assert found.estimate is not None
    raw, q1, q0 = 590.5 / 1001, 80.5 / 101, 90.5 / 101
    for theta in found.estimate.ci:
        gap = raw - (1 - q0) * (1 - theta) - q1 * theta
        variance = (
            raw * (1 - raw) / 1001 + (1 - theta) ** 2 * q0 * (1 - q0) / 101 + theta**2 * q1 * (1 - q1) / 101
        )
        assert gap**2 == pytest.approx(1.959963985**2 * variance)


def test_a_judge_without_errors_leaves_the_rate_and_some_doubt() -> None:
    found = corrected(0.6, 100, 20, 20, 20, 20)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.6)
    assert found.estimate.ci[1] - found.estimate.ci[0] > 2 * 1.96 * math.sqrt(0.24 / 100)


def test_impossible_rates_are_kept_within_0_and_1() -> None:
    # Fewer wins than the judge's false alarms alone: (.05 + .8 - 1) / .6 < 0.
    found = corrected(0.05, 400, 80, 100, 80, 100)
    assert found.estimate is not None
    assert (found.estimate.value, found.estimate.ci[0]) == (0, 0)


def test_a_judge_near_chance_is_refused() -> None:
    found = corrected(0.5, 400, 55, 100, 60, 100)
    assert found.estimate is None
    assert (found.sensitivity, found.specificity) == (0.55, 0.6)


def test_few_labels_of_a_weak_judge_say_nothing_at_all() -> None:
    found = corrected(0.5, 400, 3, 4, 2, 4)
    assert found.estimate is not None
    assert found.estimate.ci == (0, 1)


def test_nothing_to_correct_with() -> None:
    assert rogan_gladen(0.5, 0, 5, 10, 5, 10) is None
    assert rogan_gladen(0.5, 10, 0, 0, 5, 10) is None
    assert rogan_gladen(0.5, 10, 5, 10, 0, 0) is None

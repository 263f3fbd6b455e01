"""Drift of a judge: chance is not called drift, and drift is not called chance."""

from __future__ import annotations

import numpy as np
import pytest

from judges.drift import ALPHA, Asked, shift


def told(values: np.ndarray) -> dict[Asked, float]:
    return {(f"p{number}",): float(value) for number, value in enumerate(values)}


@pytest.fixture
def first() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, 40)


def test_the_same_answers_are_no_drift(first: np.ndarray) -> None:
    found = shift(told(first), told(first), told(first))
    assert (found.n, found.noise, found.change, found.p_value) == (40, 0.0, 0.0, 1.0)
    assert not found.drifted


def test_a_moved_judge_has_drifted(first: np.ndarray) -> None:
    found = shift(told(first), told(first), told(-first))
    assert found.change == pytest.approx(2 * np.abs(first).mean())
    assert found.drifted


def test_a_tiny_shift_is_within_the_bound(first: np.ndarray) -> None:
    found = shift(told(first), told(first), told(first + 0.2))
    assert found.p_value < ALPHA
    assert not found.drifted


def test_few_answers_say_nothing(first: np.ndarray) -> None:
    few = first[:11]
    assert not shift(told(few), told(few), told(-few)).drifted
    assert shift({}, {}, {}).p_value == 1.0


def test_a_judge_of_votes_raises_no_false_alarm() -> None:
    """Verdicts drawn anew each time differ widely; over 1,000 checks few are called drift."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(1000):
        p = random.uniform(0.05, 0.95, 20)
        votes = [np.where(random.random(20) < p, 1.1, -1.1) for _ in range(3)]
        alarms += shift(*map(told, votes)).drifted
    assert alarms <= 5

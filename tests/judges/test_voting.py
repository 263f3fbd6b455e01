"""When votes may stop: the sequential test against a plain loop, and what it saves on the benchmark."""

from __future__ import annotations

import runpy
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.voting import LEAD, lead_needed, votes_wanted

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "voting.py"


@pytest.mark.parametrize(
    ("p", "error", "lead"),
    [(0.7, 0.1, 3), (0.8, 0.05, 3), (0.8, 0.1, 2), (0.9, 0.1, 1), (0.6, 0.05, 8)],
)
def test_the_lead_that_decides(p: float, error: float, lead: int) -> None:
    """log((1 - a) / a) / log(p / (1 - p)), rounded up: log 9 / log(7/3) = 2.59; log 9 / log 9 = 1 exactly."""
    assert lead_needed(p, error) == lead


def test_the_default_is_a_lead_of_three() -> None:
    assert LEAD == 3


@pytest.mark.parametrize(
    ("votes", "most", "wanted"),
    [
        ([], 9, 3),
        ([1, 1, 1], 9, 0),
        ([1, 1, 0], 9, 2),
        ([1, 0], 9, 3),
        ([0, 0], 9, 1),
        ([0.5, 0.5], 9, 3),
        ([1, 1, 0.5], 9, 1),
        ([1, 1, None], 9, 1),
        ([1, 0.5, 0, 0], 9, 2),
        ([], 1, 1),
        ([1], 1, 0),
        ([], 3, 2),  # Two of three that agree cannot be outvoted.
        ([1, 1], 3, 0),
        ([1, 0], 3, 1),
        ([1, 0, 1, 0, 1, 0, 1, 0], 9, 1),
        ([None] * 9, 9, 0),
    ],
)
def test_votes_wanted(votes: list[float | None], most: int, wanted: int) -> None:
    assert votes_wanted(votes, most) == wanted


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=9, max_size=9), st.integers(1, 9))
def test_drawing_several_at_once_stops_where_one_by_one_would(votes: list[float | None], most: int) -> None:
    together = 0
    while wanted := votes_wanted(votes[:together], most):
        together += wanted
    one_by_one = 0
    while votes_wanted(votes[:one_by_one], most):
        one_by_one += 1
    assert together == one_by_one <= most


def test_what_is_left_could_not_turn_a_stopped_majority_unless_it_led_by_three() -> None:
    for votes in product([0.0, 1.0], repeat=7):
        taken = 0
        while wanted := votes_wanted(list(votes[:taken]), 7):
            taken += wanted
        lead = sum(2 * vote - 1 for vote in votes[:taken])
        assert lead != 0
        assert abs(lead) == LEAD or (lead > 0) == (sum(votes) > 3.5)


def test_the_benchmark_saves_what_it_claims() -> None:
    """At least 45% fewer votes for at most half a point of accuracy, with at most nine votes."""
    fixed, stopped = runpy.run_path(str(BENCHMARK))["simulate"](5000, 9, LEAD)
    assert 1 - stopped.votes / fixed.votes >= 0.45
    assert fixed.accuracy - stopped.accuracy <= 0.005 + 0.002  # Two standard errors at this size.

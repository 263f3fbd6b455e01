"""A judgment and a comparison: what swapping does, and what no judgment can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import PROMPT, candidate, judgment

from prefgen.comparison import Comparison
from prefgen.judgment import logit, sigmoid

odds = st.floats(-50, 50)


@given(odds, st.sampled_from(["ab", "ba", None]))
def test_swapping_a_judgment_twice_gives_it_back(value: float, order: str | None) -> None:
    told = judgment("x", "y", value, order=order)
    assert told.swap().swap() == told


@given(odds)
def test_swapping_a_judgment_keeps_what_it_says_of_each_candidate(value: float) -> None:
    told, other = judgment("x", "y", value), judgment("x", "y", value).swap()
    assert {told.a_id: told.p_a, told.b_id: 1 - told.p_a} == pytest.approx(
        {other.a_id: other.p_a, other.b_id: 1 - other.p_a}
    )
    assert other.provenance.order == "ba"


@given(odds)
def test_the_verdict_names_the_same_winner_after_a_swap(value: float) -> None:
    told, other = judgment("x", "y", value), judgment("x", "y", value).swap()
    winner = {"a": told.a_id, "b": told.b_id, "tie": None}[told.verdict]
    assert winner == {"a": other.a_id, "b": other.b_id, "tie": None}[other.verdict]


@given(st.text(), st.text())
def test_swapping_a_comparison_twice_gives_it_back(first: str, second: str) -> None:
    shown = Comparison(PROMPT, candidate(first, 0), candidate(second, 1))
    assert shown.swap().swap() == shown
    assert (shown.swap().a, shown.swap().b) == (shown.b, shown.a)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_log_odds_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        judgment("x", "y", value)


def test_a_judgment_of_one_response_has_no_sides() -> None:
    with pytest.raises(ValueError, match="sides"):
        judgment("x", None, 1.0).swap()


@given(st.floats(-700, 700))
def test_sigmoid_is_a_probability_and_symmetric(value: float) -> None:
    assert 0 <= sigmoid(value) <= 1
    assert sigmoid(value) + sigmoid(-value) == pytest.approx(1)


@given(st.floats(0.001, 0.999))
def test_logit_undoes_sigmoid(p: float) -> None:
    assert sigmoid(logit(p)) == pytest.approx(p)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(-1e6) == 0.0
    assert sigmoid(1e6) == 1.0

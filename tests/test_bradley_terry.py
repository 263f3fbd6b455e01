"""Bradley-Terry and Davidson against general-purpose optimisation, and by their symmetries."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from prefgen.bradley_terry import SCORE_SD, SLOT_SD, Strengths, bradley_terry, davidson

PLAYERS = 5
Match = tuple[int, int]
Loss = Callable[[npt.NDArray[np.float64]], float]

matches = st.lists(
    st.tuples(st.integers(0, PLAYERS - 1), st.integers(0, PLAYERS - 1)).filter(
        lambda match: match[0] != match[1]
    ),
    min_size=1,
    max_size=12,
)


def sides(played: list[Match]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    first, second = np.array(played).T
    return first, second


def shares(played: list[Match], seed: int, columns: int | None = None) -> npt.NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return (
        random.random(len(played)) if columns is None else random.integers(0, 4, (len(played), columns)) * 1.0
    )


def same(one: Strengths, other: Strengths, slot: int = 1) -> None:
    assert one.scores == pytest.approx(other.scores, abs=1e-7)
    assert one.slot == pytest.approx(slot * other.slot, abs=1e-7)
    assert one.nu == pytest.approx(other.nu, rel=1e-6)


def minimum(loss: Loss, size: int) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-8}).x
    return found


def penalty(at: npt.NDArray[np.float64]) -> float:
    others = np.delete(at, PLAYERS)
    return float((others**2).sum() / (2 * SCORE_SD**2) + at[PLAYERS] ** 2 / (2 * SLOT_SD**2))


@given(matches, st.integers(0, 100))
def test_bradley_terry_is_the_posterior_mode(played: list[Match], seed: int) -> None:
    """-log posterior, match by match: p log(1 + e^-d) + (1 - p) log(1 + e^d) with d = s_i - s_j + b."""
    wins = shares(played, seed)

    def loss(at: npt.NDArray[np.float64]) -> float:
        total = penalty(at)
        for (i, j), p in zip(played, wins, strict=True):
            d = at[i] - at[j] + at[PLAYERS]
            total += p * np.logaddexp(0, -d) + (1 - p) * np.logaddexp(0, d)
        return total

    found = bradley_terry(*sides(played), wins, PLAYERS)
    assert [*found.scores, found.slot] == pytest.approx(minimum(loss, PLAYERS + 1), abs=1e-4)


@given(matches, st.integers(0, 100))
def test_davidson_is_the_posterior_mode(played: list[Match], seed: int) -> None:
    """P(i) : P(j) : P(tie) = e^(s_i + b/2) : e^(s_j - b/2) : nu e^((s_i + s_j) / 2)."""
    counts = shares(played, seed, 3)

    def loss(at: npt.NDArray[np.float64]) -> float:
        total = penalty(at)
        for (i, j), told in zip(played, counts, strict=True):
            middle = (at[i] + at[j]) / 2 + at[PLAYERS + 1]
            odds = np.exp([at[i] + at[PLAYERS] / 2, at[j] - at[PLAYERS] / 2, middle])
            total -= told @ np.log(odds / odds.sum())
        return float(total)

    found = davidson(*sides(played), counts, PLAYERS)
    expected = minimum(loss, PLAYERS + 2)
    assert [*found.scores, found.slot, math.log(found.nu)] == pytest.approx(expected, abs=1e-4)


@given(matches, st.integers(0, 100))
def test_other_slots_with_turned_verdicts_give_the_same_scores(played: list[Match], seed: int) -> None:
    first, second = sides(played)
    wins, counts = shares(played, seed), shares(played, seed, 3)
    same(bradley_terry(second, first, 1 - wins, PLAYERS), bradley_terry(first, second, wins, PLAYERS), -1)
    turned = counts[:, [1, 0, 2]]
    same(davidson(second, first, turned, PLAYERS), davidson(first, second, counts, PLAYERS), -1)


def test_a_slot_that_wins_everywhere_is_the_slots() -> None:
    """A circle of equals in which the first always wins by .5 log-odds: b solves the one equation left,
    3 (sigmoid(.5) - sigmoid(b)) = b / SLOT_SD^2, and the scores are 0. With sigmoid(b) = .5 + b / 4 and the
    prior's 1, that is .367 = 1.75 b."""
    wins = np.full(3, 1 / (1 + math.exp(-0.5)))
    found = bradley_terry(np.array([0, 1, 2]), np.array([1, 2, 0]), wins, 3)
    assert found.scores == pytest.approx([0, 0, 0], abs=1e-9)
    assert 3 * (wins[0] - 1 / (1 + math.exp(-found.slot))) == pytest.approx(found.slot / SLOT_SD**2)
    assert found.slot == pytest.approx(0.21, abs=0.001)


def test_many_matches_outweigh_the_prior() -> None:
    """x beats y by 1 and y beats z by 2, with .5 for the slot, a thousand times in each order."""
    truth, slot = np.array([4 / 3, 1 / 3, -5 / 3]), 0.5
    played = [(0, 1), (1, 0), (1, 2), (2, 1)] * 1000
    first, second = sides(played)
    wins = 1 / (1 + np.exp(-(truth[first] - truth[second] + slot)))
    found = bradley_terry(first, second, wins, 3)
    assert found.scores == pytest.approx(truth, abs=0.01)
    assert found.slot == pytest.approx(slot, abs=0.01)


def test_ties_between_equals() -> None:
    """2 wins, 2 losses and 4 ties, a thousand times: nu = 4 / 2."""
    found = davidson(np.array([0]), np.array([1]), np.array([[2000.0, 2000.0, 4000.0]]), 2)
    assert found.scores == pytest.approx([0, 0], abs=1e-9)
    assert found.nu == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("certain", [1.0, 1 - 1e-12])
def test_certainty_is_finite(certain: float) -> None:
    found = bradley_terry(np.array([0, 1]), np.array([1, 2]), np.full(2, certain), 3)
    assert found.scores[0] > found.scores[1] > found.scores[2]
    assert np.abs(found.scores).max() < 10


@pytest.mark.parametrize("wins", [-0.1, 1.1, math.nan])
def test_wins_outside_their_range(wins: float) -> None:
    with pytest.raises(ValueError, match="negative or NaN"):
        bradley_terry(np.array([0]), np.array([1]), np.array([wins]), 2)

"""The verdict algebra: properties, and tables worked out by hand."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import failure, judgment

from prefgen.judgment import FAILURES, JudgeResult
from prefgen.verdicts import Standing, settle

IDS = ["c1", "c2", "c3", "c4"]
PRINCIPLES = ["clear", "kind"]
WEIGHTS = {"clear": 0.75, "kind": 0.25}
odds = st.floats(-8, 8).map(lambda value: round(value, 3))


@st.composite
def results(draw: st.DrawFn) -> list[JudgeResult]:
    """Some judgments and failures on some pairs of four candidates, told either way round."""
    made: list[JudgeResult] = []
    for pair in combinations(IDS, 2):
        for principle in PRINCIPLES:
            for order in ("ab", "ba"):
                kind = draw(st.sampled_from(["judged", "judged", "judged", "failed", "missing"]))
                a, b = draw(st.permutations(pair))
                if kind == "judged":
                    made.append(judgment(a, b, draw(odds), principle, order))
                elif kind == "failed":
                    made.append(failure(a, b))
    return made


def same(one: Standing, other: Standing) -> None:
    assert dict(one.scores) == pytest.approx(dict(other.scores), abs=1e-6)
    assert dict(one.margins) == pytest.approx(dict(other.margins))
    assert one.failed == other.failed


@given(results(), st.randoms(use_true_random=False))
def test_telling_any_judgment_the_other_way_round_changes_nothing(
    told: list[JudgeResult], draw: random.Random
) -> None:
    other = [item.swap() if hasattr(item, "swap") and draw.random() < 0.5 else item for item in told]
    same(settle(IDS, told, WEIGHTS), settle(IDS, other, WEIGHTS))


@given(results(), st.randoms(use_true_random=False))
def test_the_order_of_results_and_of_candidates_changes_nothing(
    told: list[JudgeResult], draw: random.Random
) -> None:
    ids, mixed = IDS[:], told[:]
    draw.shuffle(ids)
    draw.shuffle(mixed)
    same(settle(IDS, told, WEIGHTS), settle(ids, mixed, WEIGHTS))


@given(results())
def test_margins_are_antisymmetric(told: list[JudgeResult]) -> None:
    standing = settle(IDS, told, WEIGHTS)
    for a, b in combinations(IDS, 2):
        margin, other = standing.margin(a, b), standing.margin(b, a)
        assert (margin is None) == (other is None)
        assert margin is None or margin == -(other or 0.0)


@given(results())
def test_a_failed_pair_is_never_averaged_and_never_a_tie(told: list[JudgeResult]) -> None:
    standing = settle(IDS, told, WEIGHTS)
    for item in told:
        if not hasattr(item, "log_odds"):
            assert standing.margin(item.a_id, item.b_id or "") is None
            assert standing.failed_between(item.b_id or "", item.a_id)


@pytest.mark.parametrize("status", FAILURES)
def test_one_failed_order_leaves_the_pair_undecided(status: str) -> None:
    told = [judgment("c1", "c2", 3.0), failure("c2", "c1", status)]
    standing = settle(["c1", "c2"], told)
    assert standing.margin("c1", "c2") is None
    assert standing.scores == {}


@given(st.floats(-4, 4), st.floats(-4, 4))
def test_a_liking_for_a_slot_cancels(content: float, slot: float) -> None:
    """Shown first, a gains the slot's log-odds; shown second it loses them."""
    told = [
        judgment("c1", "c2", content + slot, order="ab"),
        judgment("c1", "c2", content - slot, order="ba"),
    ]
    assert settle(["c1", "c2"], told).margin("c1", "c2") == pytest.approx(content, abs=1e-12)


@given(st.integers(-40, 40), st.integers(-40, 40))
def test_a_liking_for_a_slot_cancels_exactly_in_numbers_a_float_holds(content: int, slot: int) -> None:
    told = [
        judgment("c1", "c2", (content + slot) / 8, order="ab"),
        judgment("c1", "c2", (content - slot) / 8, order="ba"),
    ]
    assert settle(["c1", "c2"], told).margin("c1", "c2") == content / 8


def test_scores_of_a_complete_round_robin_are_mean_margins() -> None:
    """x beats y by 2, x beats z by 4, y beats z by 0. Mean margin over three, itself included as 0:
    x (2 + 4) / 3 = 2, y (-2 + 0) / 3 = -2/3, z (-4 + 0) / 3 = -4/3. They sum to zero."""
    told = [judgment("x", "y", 2.0), judgment("z", "x", -4.0), judgment("y", "z", 0.0)]
    standing = settle(["x", "y", "z"], told)
    assert dict(standing.scores) == pytest.approx({"x": 2.0, "y": -2 / 3, "z": -4 / 3}, abs=1e-6)
    assert standing.margin("x", "z") == 4.0
    assert standing.margin("z", "y") == 0.0


def test_a_pair_that_never_met_is_told_by_its_scores() -> None:
    """x - y = 1 and y - z = 2, so x - z = 3."""
    standing = settle(["x", "y", "z"], [judgment("x", "y", 1.0), judgment("y", "z", 2.0)])
    assert standing.margin("x", "z") == pytest.approx(3.0, abs=1e-6)


def test_principles_are_weighted_after_orders_are_averaged() -> None:
    """clear: (3 + 1) / 2 = 2 with weight .75; kind: (-4 + -2) / 2 = -3 with weight .25; 1.5 - .75 = .75."""
    told = [
        judgment("x", "y", 3.0, "clear", "ab"),
        judgment("x", "y", 1.0, "clear", "ba"),
        judgment("x", "y", -4.0, "kind", "ab"),
        judgment("y", "x", 2.0, "kind", "ba"),
    ]
    assert settle(["x", "y"], told, WEIGHTS).margin("x", "y") == pytest.approx(0.75)


def test_weights_of_principles_that_did_speak_sum_to_one() -> None:
    """Only `kind` was asked: its share is all there is."""
    assert settle(["x", "y"], [judgment("x", "y", 2.0, "kind")], WEIGHTS).margin("x", "y") == 2.0


def test_single_scores_are_weighted_means_of_principles() -> None:
    """x: .75 * 2 + .25 * -2 = 1; y: .75 * 0 + .25 * 4 = 1: a tie by different roads."""
    told = [
        judgment("x", None, 2.0, "clear"),
        judgment("x", None, -2.0, "kind"),
        judgment("y", None, 0.0, "clear"),
        judgment("y", None, 4.0, "kind"),
    ]
    standing = settle(["x", "y"], told, WEIGHTS)
    assert dict(standing.scores) == {"x": 1.0, "y": 1.0}
    assert standing.margin("x", "y") == 0.0


def test_a_candidate_with_one_failed_principle_has_no_score() -> None:
    told = [judgment("x", None, 2.0, "clear"), failure("x", None), judgment("y", None, 1.0, "clear")]
    standing = settle(["x", "y"], told)
    assert dict(standing.scores) == {"y": 1.0}
    assert standing.margin("x", "y") is None
    assert standing.failed_between("y", "x")


def test_nothing_said_is_nothing_known() -> None:
    standing = settle(["x", "y"], [])
    assert dict(standing.scores) == {}
    assert standing.margin("x", "y") is None
    assert not standing.failed_between("x", "y")


def test_reasons_are_the_ledger_keys_behind_the_margin() -> None:
    told = [judgment("y", "x", 1.0, key="k1"), judgment("x", "y", 2.0, order="ba", key="k2")]
    standing = settle(["x", "y"], told)
    assert standing.reasons("y", "x") == ("k1", "k2")
    singles = settle(["x", "y"], [judgment("x", None, 1.0, key="k3"), judgment("y", None, 2.0, key="k4")])
    assert singles.reasons("y", "x") == ("k4", "k3")

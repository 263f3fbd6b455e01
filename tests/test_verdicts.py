"""The verdict algebra: properties, and tables worked out by hand."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import failure, judgment

from prefgen.comparison import Order
from prefgen.judgment import FAILURES, JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.verdicts import Standing, Weighing, settle, settle_singles

IDS = ["c1", "c2", "c3", "c4"]
PRINCIPLES = ["clear", "kind"]
WEIGHTS = Weighing({"clear": 0.75, "kind": 0.25})
BOTH: tuple[Order, Order] = ("ab", "ba")
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
    told = [judgment("x", "y", 1.0, order=order) for order in BOTH]
    told += [judgment("y", "z", 2.0, order=order) for order in BOTH]
    standing = settle(["x", "y", "z"], told)
    assert standing.margin("x", "z") == pytest.approx(3.0, abs=1e-6)


def lap(slot: float, content: dict[str, float]) -> list[JudgeResult]:
    """Each shown before the next and the last before the first, by a judge that leans to the first slot."""
    names = list(content)
    around = zip(names, [*names[1:], names[0]], strict=True)
    return [judgment(a, b, content[a] - content[b] + slot) for a, b in around]


CONTENT = {"c1": 2.0, "c2": 0.5, "c3": -0.5, "c4": -2.0}


def test_where_not_all_met_the_slot_is_estimated_with_the_scores() -> None:
    """Everybody is shown once in each slot: scores keep order and symmetry, however far the judge leans."""
    for slot in (0.0, 0.5, 1.5):
        standing = settle(IDS, lap(slot, CONTENT))
        scores = [standing.scores[name] for name in IDS]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(-scores[3], abs=0.25 * slot + 1e-9)


def test_a_pair_that_met_in_one_order_only_has_no_margin() -> None:
    told = lap(0.5, CONTENT)
    assert settle(IDS, told).margin("c1", "c2") is None
    standing = settle(IDS, [*told, judgment("c2", "c1", CONTENT["c2"] - CONTENT["c1"] + 0.5)])
    assert standing.margin("c1", "c2") == pytest.approx(1.5)
    assert standing.margin("c1", "c3") is None
    assert not standing.failed_between("c1", "c3")


@given(st.lists(odds, min_size=4, max_size=4))
def test_exchanging_the_slots_and_the_verdicts_changes_no_score(said: list[float]) -> None:
    around = list(zip(IDS, [*IDS[1:], IDS[0]], said, strict=True))
    one = settle(IDS, [judgment(a, b, z, order="ab") for a, b, z in around])
    other = settle(IDS, [judgment(a, b, z, order="ba") for a, b, z in around])
    assert dict(one.scores) == pytest.approx(dict(other.scores), abs=1e-6)


def test_a_match_that_failed_was_not_played() -> None:
    told = lap(0.0, CONTENT)
    standing = settle(IDS, [*told[:-1], failure("c4", "c1")])
    assert dict(standing.scores) == pytest.approx(dict(settle(IDS, told[:-1]).scores))
    assert standing.margin("c4", "c1") is None
    assert standing.failed_between("c1", "c4")


def test_a_failed_second_order_leaves_the_first_to_the_scores() -> None:
    told = lap(0.5, CONTENT)
    standing = settle(IDS, [*told, failure("c2", "c1")])
    assert dict(standing.scores) == pytest.approx(dict(settle(IDS, told).scores))
    assert standing.margin("c1", "c2") is None
    assert standing.failed_between("c1", "c2")


@given(st.floats(0.1, 10))
def test_how_sure_a_judge_is_in_general_only_stretches_the_scores(scale: float) -> None:
    told = lap(0.3, CONTENT)
    other = lap(0.3 * scale, {name: scale * value for name, value in CONTENT.items()})
    stretched = {name: scale * value for name, value in settle(IDS, told).scores.items()}
    assert dict(settle(IDS, other).scores) == pytest.approx(stretched, abs=1e-6)


def test_one_order_of_every_pair_is_a_round_robin_whatever_failed() -> None:
    """Margins (1 + 3) / 3 = 4/3, (-1 + 0) / 3 and (-3 + 0) / 3; without y - z the same differences."""
    told = [judgment("x", "y", 1.0), judgment("x", "z", 3.0), judgment("y", "z", 0.0)]
    standing = settle(["x", "y", "z"], told)
    assert standing.margin("x", "y") == 1.0
    assert dict(standing.scores) == pytest.approx({"x": 4 / 3, "y": -1 / 3, "z": -1.0}, abs=1e-6)
    standing = settle(["x", "y", "z"], [*told[:2], failure("y", "z")])
    assert standing.margin("x", "y") == 1.0
    assert dict(standing.scores) == pytest.approx({"x": 4 / 3, "y": 1 / 3, "z": -5 / 3}, abs=1e-6)


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


def test_the_slot_is_told_beside_the_margin() -> None:
    """z_ab = 3 and z_ba = 1: the content is 2, the lean to the first position 1, however it is told."""
    there = [judgment("x", "y", 3.0, order="ab"), judgment("x", "y", 1.0, order="ba")]
    back = [item.swap() for item in there]
    for told in (there, back, [there[0], back[1]]):
        standing = settle(["x", "y"], told)
        assert standing.margin("x", "y") == pytest.approx(2.0)
        assert standing.slot_bias("x", "y") == standing.slot_bias("y", "x") == pytest.approx(1.0)
    assert settle(["x", "y"], there[:1]).slot_bias("x", "y") is None


def test_singles_are_settled_on_one_scale_for_all_prompts() -> None:
    def told(judge: str, name: str, log_odds: float | None) -> JudgeResult:
        said = Provenance(judge, judge, "")
        if log_odds is None:
            return JudgeFailure("p1", name, None, "timeout", said, "")
        return Judgment("p1", name, None, log_odds, said, "")

    results = [told("x", "c1", 1.0), told("x", "c2", 2.0), told("y", "c1", 5.0), told("y", "c2", None)]
    # (1 + 5) / 2, whoever else was judged; on c2 one of the two failed.
    assert settle_singles(["c1", "c2"], results) == {"c1": 3.0}
    assert settle_singles(["c1"], results) == {"c1": 3.0}
    assert settle_singles(["c1", "c2"], results[:2]) == {"c1": 1.0, "c2": 2.0}
    assert settle_singles(["c1"], []) == {}

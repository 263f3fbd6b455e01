"""Biases of judges that are built to have them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scipy.stats import binomtest

from judges.bias import leaning, leanings, position, repeats, self_preference
from judges.items import Item, collect
from prefgen.candidate import Candidate
from prefgen.comparison import Order
from prefgen.judgment import Verdict
from prefgen.labels import LabelledPair, Pair
from prefgen.messages import user
from prefgen.prompt import Prompt
from prefgen.verdict_file import RecordedVerdict

ORDERS: tuple[Order, ...] = ("ab", "ba")


def item(
    name: str,
    human: Verdict,
    ab: Verdict | None = None,
    ba: Verdict | None = None,
    texts: tuple[str, str] = ("one", "two!"),
    odds: tuple[float, float] | None = None,
) -> Item:
    pair = Pair(name, Prompt(name, user(f"prompt {name}")), *(Candidate(name, t, "m", 0) for t in texts))
    said = [
        RecordedVerdict(name, verdict, odds and odds[place], ORDERS[place], "judge")
        for place, verdict in enumerate((ab, ba))
    ]
    return collect([LabelledPair(pair, (human,), (None,))], said)[0]


def test_position_by_hand() -> None:
    """Four pairs: two consistent, one always first, one with a tie; one failure."""
    items = [
        item("1", "a", "a", "a"),
        item("2", "a", "b", "b"),
        item("3", "a", "a", "b"),
        item("4", "a", "tie", "b"),
        item("5", "a", None, "a"),
    ]
    told = position(items)
    assert (told.n_both_orders, told.consistency) == (4, 0.5)
    # Decided: ab a, ba a | ab b, ba b | ab a, ba b | ba b | ba a. To the first: yes no no yes yes yes yes no.
    assert told.first_slot_rate == pytest.approx(5 / 8)
    assert told.p_value == pytest.approx(binomtest(5, 8).pvalue)
    assert (told.first_only, told.second_only) == (1, 0)
    assert told.log_odds is None


def test_slot_log_odds_are_half_the_difference_of_the_orders() -> None:
    items = [item(str(n), "a", "a", "a", odds=(3.0, 1.0)) for n in range(20)]
    told = position(items).log_odds
    assert told is not None
    assert told.value == pytest.approx(1.0)
    assert told.ci == pytest.approx((1.0, 1.0))


def test_nothing_to_tell_is_none() -> None:
    told = position([])
    assert (told.consistency, told.first_slot_rate, told.p_value) == (None, None, None)
    assert leaning([], "length") is None
    assert repeats([]) is None


def lengths(judge: Sequence[Verdict], human: Sequence[Verdict]) -> list[Item]:
    return [
        item(str(n), people, verdict, verdict, ("long text", "short"))
        for n, (verdict, people) in enumerate(zip(judge, human, strict=True))
    ]


def test_a_judge_that_likes_length_more_than_people_do() -> None:
    told = leaning(lengths(["a"] * 9 + ["b"], ["a"] * 6 + ["b"] * 4), "length")
    assert told is not None
    assert (told.n, told.judge, told.human) == (10, 0.9, 0.6)
    assert told.difference.value == pytest.approx(0.3)
    assert told.difference.ci[0] >= 0


def test_ties_and_equal_lengths_do_not_count() -> None:
    items = [*lengths(["a", "tie"], ["tie", "a"]), item("9", "a", "a", "a", ("same", "size"))]
    assert leaning(items, "length") is None


def test_every_surface_feature_that_differs_is_told() -> None:
    told = leanings([item("1", "b", "a", "a", ("# head\n- list **bold**", "plain"))])
    assert set(told) == {"length", "headers", "lists", "bold"}
    assert told["bold"].difference.value == 1.0


def test_self_preference_by_hand() -> None:
    """The judge wrote every a. Where people prefer a it agrees 2 of 2, where they prefer b 1 of 2."""
    items = [
        item("1", "a", "a", "a"),
        item("2", "a", "a", "a"),
        item("3", "b", "a", "a"),
        item("4", "b", "b", "b"),
    ]
    told = self_preference(items, lambda _: (True, False))
    assert told is not None
    assert (told.n_own, told.n_other, told.own, told.other) == (2, 2, 1.0, 0.5)
    assert told.difference.value == pytest.approx(0.5)
    assert self_preference(items, lambda _: (True, True)) is None
    assert self_preference(items[:2], lambda _: (True, False)) is None


def test_repeats_are_of_one_question() -> None:
    """Asked thrice in one order, a a b: two of six ordered pairs agree. The other order was asked once."""
    base = item("1", "a", "a", "a")
    said = [RecordedVerdict("1", verdict, None, "ab", "j") for verdict in ("a", "a", "b")]
    again = collect(
        [LabelledPair(base.pair, ("a",), (None,))], [*said, RecordedVerdict("1", "a", None, "ba", "j")]
    )
    told = repeats(again)
    assert told is not None
    assert told.n_questions == 1
    assert told.agreement.value == pytest.approx(1 / 3)

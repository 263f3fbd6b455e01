"""Planted pairs: what can be made of a prompt's candidates, and when one came out wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import PROMPT, candidate, judgment

from prefgen.pairing import PairingRule, pair_up
from prefgen.planted import Planted, PlantedResult, check, plant, swap_errors
from prefgen.verdicts import settle

GOOD = candidate("one two three four five six", 0)
RULE = PairingRule()
BY_KIND = {item.kind: item for item in plant(PROMPT, [GOOD])}


def told(item: Planted, margin: float) -> PlantedResult:
    """What comes of a judge that gives `good` this margin over `bad`."""
    standing = settle([side.id for side in item.sides], [judgment(item.good.id, item.bad.id, margin)])
    return check(item, standing, pair_up(PROMPT, item.sides, standing, RULE), RULE)


def test_what_is_planted() -> None:
    assert set(BY_KIND) == {"identical", "empty", "corrupted", "swapped"}
    assert BY_KIND["identical"].bad.text == GOOD.text
    assert BY_KIND["identical"].bad.id != GOOD.id
    assert BY_KIND["empty"].bad.empty
    assert sorted(BY_KIND["corrupted"].bad.text.split()) == sorted(GOOD.text.split())
    assert BY_KIND["corrupted"].bad.text != GOOD.text
    assert BY_KIND["swapped"].sides == BY_KIND["corrupted"].sides[::-1]


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=9))
def test_planting_always_ends(words: list[str]) -> None:
    planted = plant(PROMPT, [candidate(" ".join(words))])
    assert bool(planted) == (len(set(words)) >= 5)


def test_nothing_is_planted_on_what_was_cut_or_is_too_short() -> None:
    assert (
        plant(PROMPT, [candidate(GOOD.text, 0, "length"), candidate("too short", 1), candidate("", 2)]) == []
    )
    assert plant(PROMPT, [candidate("too short", 1), GOOD])[0].good == GOOD


@pytest.mark.parametrize(
    ("kind", "margin", "correct", "emitted"),
    [
        ("identical", 0.0, True, False),
        ("identical", 0.3, True, False),
        ("identical", 1.2, False, False),
        ("identical", -1.2, False, False),
        ("empty", 3.0, True, True),
        ("empty", 0.0, True, False),
        ("empty", -0.5, True, False),
        ("empty", -2.0, False, False),
        ("corrupted", 2.0, True, True),
        ("corrupted", -2.0, False, True),
        ("corrupted", -0.2, True, False),
        ("swapped", 2.0, True, True),
        ("swapped", -2.0, False, True),
    ],
)
def test_only_a_wrong_label_is_wrong(kind: str, margin: float, correct: bool, emitted: bool) -> None:
    result = told(BY_KIND[kind], margin)
    assert (result.correct, result.emitted) == (correct, emitted)


def test_a_failed_judgment_is_no_wrong_label() -> None:
    item = BY_KIND["corrupted"]
    standing = settle([GOOD.id, item.bad.id], [])
    result = check(item, standing, pair_up(PROMPT, item.sides, standing, RULE), RULE)
    assert (result.correct, result.emitted, result.margin) == (True, False, None)


def test_a_margin_that_depends_on_who_is_named_first_is_a_swap_error() -> None:
    sound = [told(BY_KIND["corrupted"], 0.4), told(BY_KIND["swapped"], 0.4)]
    assert list(swap_errors(sound)) == []
    lost = [told(BY_KIND["corrupted"], 0.4), told(BY_KIND["swapped"], -0.4)]
    assert list(swap_errors(lost)) == ["p1: margin +0.4000, told the other way round -0.4000"]

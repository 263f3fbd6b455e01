"""Splits: near-duplicate prompts never straddle, and the share is about right."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefgen.messages import content_hash
from prefgen.splits import NearDuplicates, held_out, id_hash

WORDS = [
    f"{a}{b}"
    for a in ("ta", "mi", "ro", "lek", "sun", "bra")
    for b in ("no", "ki", "vel", "dor", "pax", "ust")
]
TEMPLATE = (
    "You are a support agent of a large shop. Answer the customer below in a friendly tone and in few words. "
)


def text_of(draw: random.Random, words: int = 30) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def groups_of(texts: list[str]) -> list[int]:
    near = NearDuplicates()
    for text in texts:
        near.add(text)
    return near.groups().tolist()


def reworded(text: str, draw: random.Random) -> str:
    """One word of forty exchanged, another case, another spacing."""
    words = text.split()
    words[draw.randrange(len(words))] = "changed"
    return "  ".join(words).upper()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("head", ["", TEMPLATE])
def test_near_duplicates_are_found_wherever_they_stand(seed: int, head: str) -> None:
    """With a common head all prompts look somewhat alike, and many share a bucket."""
    draw = random.Random(seed)
    texts = [head + text_of(draw, 40) for _ in range(120)]
    pairs = [(text, reworded(text, draw)) for text in texts]
    mixed = [side for pair in pairs for side in pair]
    draw.shuffle(mixed)
    group = dict(zip(mixed, groups_of(mixed), strict=True))
    straddling = [pair for pair in pairs if group[pair[0]] != group[pair[1]]]
    assert len(straddling) <= 2  # MinHash estimates; all but a few at the very edge are found.


def test_exact_duplicates_up_to_case_and_space_always_meet() -> None:
    draw = random.Random(1)
    texts = [TEMPLATE + text_of(draw, 8) for _ in range(300)]
    doubled = texts + [text.upper().replace(" ", "\n ") for text in texts]
    group = groups_of(doubled)
    assert group[:300] == group[300:]


def test_alike_texts_meet_though_others_stand_between_them_in_their_buckets() -> None:
    """The first and the last are alike, what lies between shares their long beginning only."""
    draw = random.Random(2)
    ends = [text_of(draw, 8) for _ in range(200)]
    texts = [TEMPLATE * 2 + end for end in ends]
    group = groups_of([*texts, texts[0] + " x"])
    assert group[0] == group[-1]


def test_different_prompts_stay_apart() -> None:
    draw = random.Random(3)
    assert len(set(groups_of([text_of(draw) for _ in range(300)]))) == 300


@pytest.mark.parametrize("texts", [[], ["x"], ["", ""], ["a", "ab", "abc"]])
def test_short_and_few(texts: list[str]) -> None:
    assert len(groups_of(texts)) == len(texts)


def test_many_equal_prompts_are_one_group_in_no_time() -> None:
    assert set(groups_of(["the same prompt again"] * 5000)) == {0}


@given(st.lists(st.text(max_size=30), max_size=12))
def test_a_group_is_named_by_its_first_member(texts: list[str]) -> None:
    group = groups_of(texts)
    assert all(
        group[number] <= index and group[group[number]] == group[number] for index, number in enumerate(group)
    )


def held_of(sizes: dict[int, int], ids: list[str], share: float) -> set[int]:
    """The groups that are test. `sizes`: by the name of the group; `ids`: of the groups' first prompts."""
    names = [name for name, size in sizes.items() for _ in range(size)]
    starts = {name: names.index(name) for name in sizes}
    groups = np.array([starts[name] for name in names], np.int64)
    hashes = [id_hash(ids[name]) for name in names]
    test = held_out(groups, hashes, share)
    chosen = {name for name, is_test in zip(names, test, strict=True) if is_test}
    assert test.sum() == sum(sizes[name] for name in chosen)  # A group is in one split, all of it.
    return chosen


def share_of(sizes: Counter[int], share: float) -> float:
    ids = [f"id{number}" for number in range(len(sizes))]
    return sum(sizes[group] for group in held_of(dict(sizes), ids, share)) / sum(sizes.values())


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_share_is_about_right(share: float) -> None:
    assert share_of(Counter(range(1000)), share) == pytest.approx(share, abs=0.002)
    draw = random.Random(4)
    uneven = Counter({start: draw.choice([1, 1, 2, 5]) for start in range(400)})
    assert share_of(uneven, share) == pytest.approx(share, abs=0.02)


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 50), min_size=1), st.floats(0.01, 0.99))
def test_training_always_gets_something(sizes: dict[int, int], share: float) -> None:
    test = held_of(sizes, [f"id{number}" for number in range(41)], share)
    assert len(test) < len(sizes)
    assert sum(sizes[group] for group in test) <= share * sum(sizes.values()) + 0.5


def test_the_choice_depends_on_ids_not_on_places() -> None:
    ids = [f"id{number}" for number in range(50)]
    chosen = {ids[group] for group in held_of(dict.fromkeys(range(50), 1), ids, 0.2)}
    assert len(chosen) == 10
    back = ids[::-1]
    assert {back[group] for group in held_of(dict.fromkeys(range(50), 1), back, 0.2)} == chosen


def test_the_choice_stays_what_it_was() -> None:
    """Resuming a run that an older prefgen began must not move prompts between the splits."""
    ids = [f"id{number}" for number in range(50)]
    expected = sorted(range(50), key=lambda number: content_hash(ids[number]))[:5]
    assert held_of(dict.fromkeys(range(50), 1), ids, 0.1) == set(expected)

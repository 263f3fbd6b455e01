from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefgen.repetition import distinct, repetition


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        # a b | b a | a b: three bigrams, two of them different, so one of three is a repeat.
        ("a b a b", 2, 1 / 3),
        # Six bigrams "no no", one of them different.
        ("no no no no no no no", 2, 5 / 6),
        # no , | , no | no . | . no | no , | , no | no . : seven, four of them different.
        ("No, no. NO, no.", 2, 3 / 7),
        ("every word is another", 2, 0),
        ("too short", 4, 0),
        ("", 1, 0),
    ],
)
def test_share_of_repeated_grams(text: str, n: int, expected: float) -> None:
    assert repetition(text, n) == pytest.approx(expected)


def test_distinct_counts_over_all_texts_together() -> None:
    # Bigrams: (a b), (b c) and (a b), (b d): four in all, three of them different.
    assert distinct(["a b c", "a b d"]) == pytest.approx(3 / 4)
    # Unigrams: a b c a b d.
    assert distinct(["a b c", "a b d"], n=1) == pytest.approx(4 / 6)
    assert distinct([]) == 1


@given(st.text(alphabet="ab c.", max_size=40), st.integers(1, 4))
def test_of_one_text_they_are_two_sides_of_one_number(text: str, n: int) -> None:
    assert repetition(text, n) == pytest.approx(1 - distinct([text], n))

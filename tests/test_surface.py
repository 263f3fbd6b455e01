"""Counts of what is seen on the surface of a text."""

from __future__ import annotations

import pytest

from prefgen.surface import Surface, formatting_density, surface


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Surface(0, 0, 0, 0, 0)),
        ("plain - text, 3 * 4 * 5, #1", Surface(27, 0, 0, 0, 0)),
        ("- one\n* two\n1. three\n  2) four", Surface(30, 4, 0, 0, 0)),
        ("# Title\n### Sub\n#hashtag", Surface(24, 0, 2, 0, 0)),
        ("**bold** and __this__, not ** this **", Surface(37, 0, 0, 2, 0)),
        ("a\n```python\n# a comment\n- no list\n```\n- list", Surface(44, 1, 0, 0, 1)),
    ],
)
def test_counts(text: str, expected: Surface) -> None:
    assert surface(text) == expected


def test_formatting_density_is_marks_for_each_hundred_words() -> None:
    # 1 header and 2 list items make 3 marks; "#", "Title", "-", "one", "-", "two" are 6 words: 100 * 3 / 6.
    assert formatting_density("# Title\n- one\n- two") == pytest.approx(50)
    assert formatting_density("just words") == 0
    assert formatting_density("") == 0

"""Counts of what is seen on the surface of a text."""

from __future__ import annotations

import pytest

from prefgen.surface import Surface, surface


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

"""Ids seen before."""

from __future__ import annotations

from contextlib import closing

from prefgen.seen import Seen


def test_the_first_line_is_remembered_and_stays() -> None:
    with closing(Seen()) as seen:
        assert [seen.first(name, line) for line, name in enumerate(["a", "b", "a", "ä", "a"], 1)] == [
            None,
            None,
            1,
            None,
            1,
        ]


def test_ten_thousand_names() -> None:
    with closing(Seen()) as seen:
        assert all(seen.first(f"id {number}", number) is None for number in range(10_000))
        assert [seen.first(f"id {number}", -1) for number in range(0, 10_000, 999)] == list(
            range(0, 10_000, 999)
        )

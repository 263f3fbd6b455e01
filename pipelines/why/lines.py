"""What the texts of `prefgen why` are made of: headings, wrapped and shortened text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.markup import plain

_WIDTH = 92


def heading(name: str, beside: str) -> tuple[str, str]:
    return "", f"{name}  {beside}".rstrip()


def messages(said: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for message in said:
        yield from wrapped(f"{message['role']}: {message['content']}", "  ", "    ")


def wrapped(value: str, first: str, then: str) -> Iterator[str]:
    """Lines of at most the page's width; line ends of the text stay."""
    for line in plain(value).splitlines() or [""]:
        yield from textwrap.wrap(
            line, _WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False
        ) or [first.rstrip()]
        first = then


def shortened(value: str, length: int) -> str:
    line = " ".join(plain(value).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"

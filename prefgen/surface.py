"""What can be seen of a text without reading it: its length and its markdown."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

_HEADER = re.compile(r"^ {0,3}#{1,6}\s+\S", re.MULTILINE)
_LIST_ITEM = re.compile(r"^[^\S\n]*(?:[-*+•]|\d{1,3}[.)])\s+\S", re.MULTILINE)
_BOLD = re.compile(r"(\*\*|__)(?=\S)(?:(?!\1).)+?(?<=\S)\1", re.DOTALL)
_CODE = re.compile(r"^ {0,3}```", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Surface:
    """Counts of one text. `length` is in characters; `lists` counts items, `code` fenced blocks."""

    length: int
    lists: int
    headers: int
    bold: int
    code: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    @property
    def marks(self) -> int:
        """Pieces of markdown of any kind."""
        return self.lists + self.headers + self.bold + self.code


def surface(text: str) -> Surface:
    """The counts of a text."""
    prose, code = _without_code(text)
    return Surface(
        len(text),
        len(_LIST_ITEM.findall(prose)),
        len(_HEADER.findall(prose)),
        len(_BOLD.findall(prose)),
        code,
    )


def _without_code(text: str) -> tuple[str, int]:
    """The text outside of fenced blocks, where # and * mean other things, and the number of blocks."""
    parts = _CODE.split(text)
    return "\n".join(parts[::2]), len(parts) // 2


def formatting_density(text: str) -> float:
    """Pieces of markdown (list items, headers, bold runs, fenced blocks) for each 100 words; 0 for no
    words."""
    words = len(text.split())
    return 100 * surface(text).marks / words if words else 0.0

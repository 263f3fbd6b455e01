"""Which texts of an evaluation stand in the training data.

The 8-gram rule of Tulu 3 (Lambert et al. 2024, arXiv 2411.15124), held against one prompt at a time: a
shared 8-gram is the evidence, and more than half of the item's words must be shared with that prompt. Tulu
counts the words of shared 8-grams, which loses copies whose edits stand closer than nine words; we count
those of shared runs of four that stand where the 8-gram says they should. Items of fewer than eight words
must be equal.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefgen.errors import InputError
from prefgen.messages import Json
from prefgen.records import Record, read_records

GRAM, RUN, SHARE = 8, 4, 0.5
SLACK = 3
"""Words that edits may have added or taken away between two shared runs."""
COLUMNS = ("prompt", "question", "text")
# Han, kana and Hangul are written without spaces: there a character is a word.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+")


@dataclass(frozen=True, slots=True)
class EvalItem:
    """`line` counts from 1."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """`share` of the item's words that are shared with the training text."""

    item: EvalItem
    share: float


def words(text: str) -> list[str]:
    """Letters and digits; case, punctuation and the form of characters do not count."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def read_eval_items(path: Path, column: str | None = None) -> Iterator[EvalItem]:
    """The texts of an evaluation file: of `column`, else of the first of prompt, question, text there is.

    A list of messages counts as their contents. Raises InputError for a missing column or another kind.
    """
    for record in read_records(path):
        name = column or next((name for name in COLUMNS if name in record.values), None)
        if name is None or name not in record.values:
            raise InputError(
                path,
                f"no column {column!r}" if column else "no column to compare",
                line=record.line,
                seen=f"columns {', '.join(record.values) or 'none'}",
                expected=column or " or ".join(COLUMNS),
                fix="name the column that holds the questions with --eval-column",
            )
        yield EvalItem(str(path), record.line, _text(path, record, name, record.values[name]))


def _text(path: Path, record: Record, name: str, value: Json) -> str:
    parts = value if isinstance(value, list) else [value]
    texts = [part.get("content") if isinstance(part, dict) else part for part in parts]
    if any(not isinstance(text, str) for text in texts) or not words(" ".join(map(str, texts))):
        raise InputError(
            path,
            f"column {name!r} is not text",
            line=record.line,
            seen=value,
            expected="a string with at least one word, or a list of messages",
        )
    return "\n".join(map(str, texts))


def read_index(paths: Sequence[Path], column: str | None = None) -> EvalIndex:
    """The items of some files, indexed. Raises InputError."""
    return EvalIndex(item for path in paths for item in read_eval_items(path, column))


class EvalIndex:
    """The n-grams of evaluation items: memory grows with them, not with the training data."""

    def __init__(self, items: Iterable[EvalItem]) -> None:
        self.items: list[EvalItem] = []
        self._words: list[list[str]] = []
        self._starts: list[int] = []
        self._short: dict[tuple[str, ...], list[int]] = {}
        self._grams: dict[tuple[str, ...], array[int]] = {}
        size = 0
        for number, item in enumerate(items):
            found = words(item.text)
            self.items.append(item)
            self._words.append(found)
            self._starts.append(size)
            self._add(number, found, size)
            size += len(found)

    def _add(self, number: int, found: Sequence[str], start: int) -> None:
        if len(found) < GRAM:
            self._short.setdefault(tuple(found), []).append(number)
        for place, gram in enumerate(_grams(found, GRAM)):
            self._grams.setdefault(gram, array("q")).append(start + place)

    def overlaps(self, *texts: str) -> list[Overlap]:
        """The items that stand in one training example, told as one or more texts; best covered first."""
        told = [words(text) for text in texts]
        equal = {number for found in told for number in self._short.get(tuple(found), ())}
        shared = {gram for found in told for gram in _grams(found, GRAM) if gram in self._grams}
        near = {bisect_right(self._starts, place) - 1 for gram in shared for place in self._grams[gram]}
        shares = dict.fromkeys(equal, 1.0) | {number: _covered(self._words[number], told) for number in near}
        kept = [Overlap(self.items[number], share) for number, share in shares.items() if share > SHARE]
        return sorted(kept, key=lambda overlap: (-overlap.share, overlap.item.file, overlap.item.line))


def _grams(found: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(found[start : start + size]) for start in range(len(found) - size + 1))


def _covered(item: Sequence[str], texts: Iterable[Sequence[str]]) -> float:
    """Share of the item's words that stand in a text too, in runs that lie as the shared 8-grams do."""
    covered: set[int] = set()
    for text in texts:
        apart = {there - here for here, there in _shared(item, text, GRAM)}
        for here, there in _shared(item, text, RUN) if apart else ():
            if not apart.isdisjoint(range(there - here - SLACK, there - here + SLACK + 1)):
                covered.update(range(here, here + RUN))
    return len(covered) / len(item)


def _shared(item: Sequence[str], text: Sequence[str], size: int) -> Iterator[tuple[int, int]]:
    """Where the grams that both have stand in the item and in the text."""
    places: dict[tuple[str, ...], list[int]] = {}
    for there, gram in enumerate(_grams(text, size)):
        places.setdefault(gram, []).append(there)
    return ((here, there) for here, gram in enumerate(_grams(item, size)) for there in places.get(gram, ()))

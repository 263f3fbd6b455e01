"""The pairs by what the prompt file says of its prompts, in columns of few values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pipelines.report.examples import Example
from pipelines.report.measures import Moments

_MOST_VALUES, _LONGEST, _MOST_COLUMNS = 12, 40, 3
_FEWEST = 3
"""Prompts a value, on average: of fewer a column says little."""


@dataclass(slots=True)
class Slice:
    prompts: int = 0
    margins: Moments = field(default_factory=Moments)
    longer: int = 0


class Slices:
    """A column is left out once it has more than twelve values, so memory stays small."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, Slice] | None] = {}

    def add(self, columns: Mapping[str, Any], kept: Sequence[Example]) -> None:
        """One prompt and its kept pairs."""
        for name, value in columns.items():
            values = self._columns.setdefault(name, {})
            if values is None or value is None:
                continue
            label = str(value)
            known = isinstance(value, str | int | bool) and len(label) <= _LONGEST
            if not known or (label not in values and len(values) == _MOST_VALUES):
                self._columns[name] = None
                continue
            told = values.setdefault(label, Slice())
            told.prompts += 1
            for pair in kept:
                told.margins.add(pair.margin)
                told.longer += len(pair.chosen) > len(pair.rejected)

    @property
    def shown(self) -> Iterator[tuple[str, list[tuple[str, Slice]]]]:
        """(column, its values) of at most three columns that divide the prompts; the largest value first."""
        telling = (
            (name, values)
            for name, values in self._columns.items()
            if values
            and len(values) > 1
            and sum(told.prompts for told in values.values()) >= _FEWEST * len(values)
        )
        for name, values in islice(telling, _MOST_COLUMNS):
            yield name, sorted(values.items(), key=lambda item: (-item[1].prompts, item[0]))

"""Annotations: what the judge made of each prompt, one JSON object a line, and read back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from prefgen.errors import InputError
from prefgen.files import json_lines
from prefgen.records import Record, identifier, read_records, require_columns

_REQUIRED = ("id", "preference", "length_model", "length_baseline")
_TEXTS = ("prompt", "response_model", "response_baseline", "failure")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One prompt of a comparison. `preference`: probability that the model beats the baseline; None where
    an answer or a judgment failed, and `failure` says which. Lengths are in characters.

    `shown_first`, `shown_second`: the preference by the place in which the model's answer was shown;
    `cluster`: prompts of one name are alike.
    """

    id: str
    preference: float | None
    length_model: int
    length_baseline: int
    difficulty: float | None = None
    cluster: str | None = None
    shown_first: float | None = None
    shown_second: float | None = None
    prompt: str | None = None
    response_model: str | None = None
    response_baseline: str | None = None
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The columns of an annotations file; the optional ones only where they hold something."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in row.items() if name in _REQUIRED or value is not None}


def as_lines(annotations: Iterable[Annotation]) -> str:
    return json_lines(item.as_json() for item in annotations)


def read_annotations(path: Path) -> list[Annotation]:
    """The annotations of a file, in its order. Raises InputError.

    In a CSV file all numbers are text, and an empty field is null.
    """
    first_line: dict[str, int] = {}
    annotations = []
    for record in read_records(path):
        item = _annotation(path, record)
        if item.id in first_line:
            seen = f"first on line {first_line[item.id]}"
            raise InputError(path, f"the id {item.id!r} twice", line=record.line, seen=seen)
        first_line[item.id] = record.line
        annotations.append(item)
    check_difficulties(path, [item.difficulty for item in annotations])
    return annotations


def _annotation(path: Path, record: Record) -> Annotation:
    require_columns(path, record, *_REQUIRED)
    preference = probability(path, record, "preference")
    judged = preference is not None
    texts = {name: value for name in _TEXTS if isinstance(value := record.values.get(name), str)}
    return Annotation(
        id=identifier(path, record, record.values["id"]),
        preference=preference,
        length_model=_length(path, record, "length_model", needed=judged),
        length_baseline=_length(path, record, "length_baseline", needed=judged),
        shown_first=probability(path, record, "shown_first"),
        shown_second=probability(path, record, "shown_second"),
        difficulty=number(path, record, "difficulty"),
        cluster=cluster(path, record),
        **texts,
    )


def cluster(path: Path, record: Record) -> str | None:
    """The row's cluster, None where it names none. Raises InputError."""
    name = record.values.get("cluster")
    return None if name is None or name == "" else identifier(path, record, name)


def check_difficulties(path: Path, difficulties: Sequence[float | None]) -> None:
    """Raises InputError where only some rows have one."""
    without = sum(item is None for item in difficulties)
    if 0 < without < len(difficulties):
        raise InputError(
            path,
            f"{without} of {len(difficulties)} rows have no difficulty",
            expected="a difficulty in every row, or in none",
        )


def number(path: Path, record: Record, name: str) -> float | None:
    """A finite number, or None where the field is absent, null or an empty CSV field."""
    value = record.values.get(name)
    if path.suffix.lower() == ".csv" and isinstance(value, str):
        with suppress(ValueError):
            value = float(value) if value.strip() else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            path, f"{name} is not a number", line=record.line, seen=repr(value), expected="a finite number"
        )
    return float(value)


def probability(path: Path, record: Record, name: str) -> float | None:
    """A number within 0..1, or None for null: the judge failed there."""
    value = number(path, record, name)
    if value is not None and not 0 <= value <= 1:
        raise InputError(
            path,
            f"{name} is outside of 0..1",
            line=record.line,
            seen=value,
            expected="the probability that the model beats the baseline, null where the judge failed",
            fix="AlpacaEval's own files have 1..2: subtract 1" if 1 < value <= 2 else None,
        )
    return value


def _length(path: Path, record: Record, name: str, *, needed: bool) -> int:
    value = number(path, record, name)
    if value is None and not needed:
        return 0
    if value is None or value < 0 or value != int(value):
        raise InputError(
            path,
            f"{name} is not a length",
            line=record.line,
            seen=repr(record.values[name]),
            expected="a number of characters",
        )
    return int(value)

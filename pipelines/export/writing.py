"""The rows of one split: shaped, held against the schema, written, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from pipelines.export.rows import RawRow, RunRows, Split
from pipelines.export.target import Row, Target
from prefgen.errors import GateError
from prefgen.tables import TableWriter, read_table


@dataclass
class Counted:
    """Of one split: rows read, written and refused."""

    rows: int = 0
    written: int = 0
    desirable: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)


def accepted(
    rows: RunRows, target: Target, split: Split, counted: Counted
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Each row the trainer can take, with what it becomes."""
    for line, raw in rows.read(split):
        counted.rows += 1
        try:
            row = rows.parse(line, raw)
            shaped = target.shape(row)
            target.schema.model_validate(shaped)
        except ValidationError as error:
            _refuse(counted, line, raw, _why(error))
        except KeyError as error:
            _refuse(counted, line, raw, f"no column {error}")
        except (ValueError, TypeError) as error:
            _refuse(counted, line, raw, str(error))
        else:
            yield row, shaped


def _refuse(counted: Counted, line: int, raw: RawRow, why: str) -> None:
    counted.refused.append({"line": line, "why": why, "row": dict(raw)})


def _why(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    return message if fault["type"] == "value_error" else f"{where}: {message} (seen: {fault['input']!r:.60})"


class _Writer(Protocol):
    def append(self, row: Mapping[str, Any]) -> None: ...
    def publish(self) -> None: ...
    def abandon(self) -> None: ...


class _Lines:
    """JSON objects, one a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def append(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def publish(self) -> None:
        self._file.close()

    abandon = publish


def write_split(rows: RunRows, target: Target, split: Split, part: Path) -> Counted:
    counted = Counted()
    path = part / f"{split}{target.suffix}"
    writer: _Writer
    if target.table is None:
        writer = _Lines(path)
    else:
        writer = TableWriter(path, target.table(rows.as_text, rows.reference is not None))
    try:
        for row, shaped in accepted(rows, target, split, counted):
            writer.append(shaped)
            counted.written += 1
            counted.desirable += row.label is True
    except BaseException:
        writer.abandon()
        raise
    writer.publish()
    if not counted.written:
        path.unlink()
    return counted


def read_back(rows: RunRows, target: Target, split: Split, part: Path) -> None:
    """Holds the written file against schema and run. Raises GateError, and then it is a fault of ours."""
    expected = (row for row, _ in accepted(rows, target, split, Counted()))
    path = part / f"{split}{target.suffix}"
    for number, (row, values) in enumerate(zip(expected, _file_rows(path), strict=True), start=1):
        target.schema.model_validate(values)
        if target.back(values) != row.essence:
            raise GateError(
                f"row {number} of {path.name} does not give back row {row.line} of the run, so nothing is "
                "published; this is an error of prefgen, please report it"
            )


def _file_rows(path: Path) -> Iterable[dict[str, Any]]:
    if path.suffix == ".parquet":
        yield from read_table(path)
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)

"""Rows of a user's file, one at a time, each with the line it stands on.

Reads `.jsonl .json .csv .parquet .txt`; every fault is an `InputError` that names file and line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefgen.errors import InputError, UsageError
from prefgen.messages import Json

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
_LFS_POINTER = "version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Record:
    """`line` counts from 1; in a Parquet file or a JSON array it is the number of the row."""

    line: int
    values: dict[str, Json]


def read_records(path: Path) -> Iterator[Record]:
    """The rows of `path`, streamed where the format allows it; raises InputError, also when it is empty."""
    _check_readable(path)
    readers = {
        ".jsonl": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
        ".txt": _read_text,
    }
    empty = True
    try:
        for record in readers[path.suffix.lower()](path):
            empty = False
            yield record
    except UnicodeDecodeError as error:
        raise InputError(path, "not UTF-8 text", seen=str(error), expected="a UTF-8 file") from error
    if empty:
        raise InputError(path, "the file holds no rows", expected="at least one row")


def _check_readable(path: Path) -> None:
    if not path.exists():
        raise InputError(path, "no such file", fix="check the path")
    if path.is_dir():
        raise InputError(path, "is a directory", expected=f"a file ({' '.join(SUFFIXES)})")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            path, "unknown file type", seen=path.suffix or "no suffix", expected=" ".join(SUFFIXES)
        )
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)).decode(errors="replace") == _LFS_POINTER:
            raise InputError(path, "is a git-lfs pointer, not the data", fix="run: git lfs pull")


def _read_jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield Record(line, _as_object(path, line, _parse_json(path, line, text)))


def _parse_json(path: Path, line: int, text: str) -> Json:
    try:
        value: Json = json.loads(text, parse_constant=_refuse_constant)
        return value
    except ValueError as error:
        where = line + getattr(error, "lineno", 1) - 1
        raise InputError(
            path, f"broken JSON ({error})", line=where, seen=text.strip(), expected="one JSON object a line"
        ) from error


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _as_object(path: Path, line: int, value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise InputError(path, "a row is not an object", line=line, seen=value, expected='{"prompt": …}')
    return value


def _read_json(path: Path) -> Iterator[Record]:
    value = _parse_json(path, 1, path.read_text(encoding="utf-8-sig"))
    if not isinstance(value, list):
        raise InputError(path, "not a list of rows", seen=type(value).__name__, expected="[{…}, {…}]")
    for row, item in enumerate(value, start=1):
        yield Record(row, _as_object(path, row, item))


def _read_csv(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    path,
                    "a row does not have the columns of the header",
                    line=reader.line_num,
                    seen=[value for value in row.values() if isinstance(value, str)],
                    expected=f"{len(reader.fieldnames or ())} columns: {', '.join(reader.fieldnames or ())}",
                )
            yield Record(reader.line_num, dict(row))


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise InputError(path, f"not a Parquet file ({error})") from error
    row = 0
    for batch in file.iter_batches(batch_size=1024):
        for values in batch.to_pylist():
            row += 1
            yield Record(row, values)


def _read_text(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield Record(line, {"prompt": text.strip()})


def identifier(path: Path, record: Record, value: Json) -> str:
    """A row's id as text: strings and integers only, printable, so that it is safe in any table."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InputError(
            path, "a bad id", line=record.line, seen=value, expected="a non-empty string or an integer"
        )
    if not str(value).isprintable():
        raise InputError(path, "an id with control characters", line=record.line, seen=repr(value))
    return str(value)


def require_columns(path: Path, record: Record, *names: str) -> None:
    """Raises InputError where a column is missing, with the columns that are there."""
    missing = [name for name in names if name not in record.values]
    if missing:
        raise InputError(
            path,
            f"no column {missing[0]!r}",
            line=record.line,
            seen=f"columns {', '.join(record.values) or 'none'}",
            expected=f"columns {', '.join(names)}",
        )


def check_unwritten(path: Path, overwrite: bool) -> None:
    """Refuses to write over a file the user has, unless told to."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; choose another name or add --overwrite")

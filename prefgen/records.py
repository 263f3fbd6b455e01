"""Rows of a user's file, one at a time, each with the line it stands on.

Reads `.jsonl .json .csv .parquet .txt`; every fault is an `InputError` that names file and line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefgen.errors import InputError, UsageError, nearest_file
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
        raise _not_utf8(path) from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})") from error
    if empty:
        raise InputError(path, "the file holds no rows", expected="at least one row")


def _check_readable(path: Path) -> None:
    if not path.exists():
        raise InputError(path, "no such file", fix=nearest_file(path))
    if path.is_dir():
        raise InputError(path, "is a directory", expected=f"a file ({' '.join(SUFFIXES)})")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            path, "unknown file type", seen=path.suffix or "no suffix", expected=" ".join(SUFFIXES)
        )
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER)).decode(errors="replace")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    if start == _LFS_POINTER:
        raise InputError(
            path,
            "is a git-lfs pointer, not the data",
            line=1,
            seen=start,
            expected="the file it stands for",
            fix="run: git lfs pull",
        )


def _not_utf8(path: Path) -> InputError:
    """Names the first line that is not UTF-8."""
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            try:
                text.decode()
            except UnicodeDecodeError as error:
                wrong = text[max(0, error.start - 20) : error.end + 20]
                return InputError(path, "not UTF-8 text", line=line, seen=wrong, expected="a UTF-8 file")
    return InputError(path, "not UTF-8 text", expected="a UTF-8 file")


def _read_jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield Record(line, _as_object(path, line, _parse_json(path, line, text.rstrip("\r\n"))))


def _parse_json(path: Path, line: int, text: str, expected: str = "one JSON object a line") -> Json:
    try:
        value: Json = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise InputError(
            path,
            f"broken JSON ({error.msg} at column {error.colno})",
            line=line + error.lineno - 1,
            seen=_around(text, error.pos),
            expected=expected,
        ) from error
    except UnicodeEncodeError as error:
        raise InputError(
            path,
            "half a surrogate pair, which is no text",
            line=line,
            seen=_around(text, max(0, text.lower().find("\\ud"))),
            expected="whole characters (an emoji was cut in two)",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            path, f"broken JSON ({error})", line=line, seen=text.strip(), expected=expected
        ) from error


def _around(text: str, position: int) -> str:
    """What stands at a position, on its line."""
    start = max(text.rfind("\n", 0, position) + 1, position - 60)
    return text[start : position + 60].partition("\n")[0].strip() or "the end of the text"


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON value; write null")


def _as_object(path: Path, line: int, value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise InputError(path, "a row is not an object", line=line, seen=value, expected='{"prompt": …}')
    return value


def _read_json(path: Path) -> Iterator[Record]:
    expected = "one list of objects, [{…}, {…}]; for one object a line, name the file .jsonl"
    value = _parse_json(path, 1, path.read_text(encoding="utf-8-sig"), expected)
    if not isinstance(value, list):
        raise InputError(path, "not a list of rows", line=1, seen=value, expected=expected)
    for row, item in enumerate(value, start=1):
        yield Record(row, _as_object(path, row, item))


def _read_csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)  # The default refuses a prompt of more than 131072 characters.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        for row in _csv_rows(path, reader):
            if None in row or None in row.values():
                raise InputError(
                    path,
                    "a row does not have the columns of the header",
                    line=reader.line_num,
                    seen=[value for value in row.values() if isinstance(value, str)],
                    expected=f"{len(reader.fieldnames or ())} columns: {', '.join(reader.fieldnames or ())}",
                )
            yield Record(reader.line_num, dict(row))


def _csv_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(
            path,
            f"broken CSV ({error})",
            line=reader.reader.line_num,
            expected='fields with quotes, commas or line breaks in "…", quotes doubled',
        ) from error


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise InputError(path, f"not a Parquet file ({error})", expected="a Parquet file") from error
    row = 0
    with file:
        try:
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    row += 1
                    yield Record(row, values)
        except (pyarrow.ArrowException, OSError) as error:
            what = str(error).partition("\n")[0]
            raise InputError(path, f"a broken Parquet file ({what})", line=row + 1) from error


def _read_text(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield Record(line, {"prompt": text.strip()})


def identifier(path: Path, record: Record, value: Json, what: str = "id") -> str:
    """A row's id (or other name) as text: strings and integers only, printable, so that it is safe in any
    table."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InputError(
            path, f"a bad {what}", line=record.line, seen=value, expected="a non-empty string or an integer"
        )
    if not str(value).isprintable():
        raise InputError(path, f"the {what} has control characters", line=record.line, seen=repr(value))
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


def require_text(path: Path, record: Record, name: str) -> None:
    """Raises InputError unless the row has some text in a column."""
    require_columns(path, record, name)
    value = record.values[name]
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            path, f"no text in column {name!r}", line=record.line, seen=repr(value), expected="some text"
        )


def check_unwritten(path: Path, overwrite: bool) -> None:
    """Refuses to write over a file the user has, unless told to."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; choose another name or add --overwrite")

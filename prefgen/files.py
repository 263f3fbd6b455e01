"""Files that appear whole or not at all, and are read as what they should be."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefgen.errors import InputError, RunDirectoryError

_NOT_THE_ROOM = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR)


def write_whole(path: Path, text: str) -> None:
    """By way of `path.part`; folders are made. Raises RunDirectoryError where the disk does not take it."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()  # It would take what little room there is.
        fix = "free disk space, then run the same command again (with --resume where it takes that), or "
        fix = "" if error.errno in _NOT_THE_ROOM else fix
        raise RunDirectoryError(
            f"{path}: cannot be written ({error.strerror}); {fix}name another place"
        ) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """One object, indented. Raises ValueError for a number that JSON has not."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file that prefgen wrote. Raises InputError for a broken one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read ({error})", fix="restore it, or make it again") from error
    if not isinstance(value, dict):
        raise InputError(path, "not what prefgen writes", seen=value, expected="one JSON object")
    return value


def json_lines(rows: Iterable[Mapping[str, Any]], default: Callable[[Any], Any] | None = None) -> str:
    """One object a line. `default`: what to write of a value that JSON has not; else TypeError."""
    return "".join(json.dumps(row, ensure_ascii=False, default=default) + "\n" for row in rows)


def found_json(path: Path) -> dict[str, Any] | None:
    """The same where a file may be missing, or another's: then None."""
    with suppress(InputError):
        return read_json(path)
    return None


def file_hash(path: Path) -> str:
    """SHA-256 of its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

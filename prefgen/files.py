"""Files that appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefgen.errors import InputError, RunDirectoryError


def write_whole(path: Path, text: str) -> None:
    """By way of `path.part`; folders are made. Raises RunDirectoryError where the disk does not take it."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: cannot be written ({error.strerror}); free disk space, then run the same command with "
            "--resume, or name another place"
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

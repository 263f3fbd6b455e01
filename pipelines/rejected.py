"""OUT.rejected.jsonl: rows that gave nothing, each with file, line and reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.console import Console
from prefgen.files import json_lines, write_whole

_SHOWN = 20


def write_rejected(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Without a row, the list of an earlier try is taken away."""
    if rows:
        write_whole(path, json_lines(rows, default=str))
    else:
        path.unlink(missing_ok=True)


def warn_of(rows: Sequence[Mapping[str, Any]], listed: Path | None, console: Console) -> None:
    """The first few on the terminal, one by one. `listed`: where all of them are."""
    for row in rows[:_SHOWN]:
        console.warn(f"{row['file']}:{row['line']}: {row['why']}")
    if len(rows) > _SHOWN:
        console.warn(
            f"and {len(rows) - _SHOWN} more rows{f'; all of them are in {listed}' if listed else ''}"
        )

"""Rows that are given in place of a file: written beside the output, under a name made of their content.

So a resumed run reads the same file, the manifest's `inputs` hold what was read, and other rows are another
input, which a resumed run refuses.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from prefgen.errors import InputError, UsageError
from prefgen.files import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    Rows: TypeAlias = "Iterable[str | Mapping[str, Any]] | pd.DataFrame | Dataset"
    Source: TypeAlias = "str | os.PathLike[str] | Rows"

ROWS = frozenset(
    {"prompts", "pairs", "labels", "unlabelled", "verdicts", "annotations", "file", "data", "eval_data"}
)
"""Options that take rows in place of a file."""


@dataclass(frozen=True, slots=True)
class Written:
    """Rows as the file they will be read from."""

    path: Path
    text: str

    def write(self) -> None:
        if not self.path.is_file():
            write_whole(self.path, self.text)


def as_file(name: str, rows: object, out: object) -> Written:
    """The rows of an option as `OUT.inputs/NAME-HASH.jsonl`, not written yet. Raises UsageError."""
    if out is None:
        raise UsageError(f"{name}: rows are written beside the output, so name it with out=")
    lines = _lines(name, rows)
    digest = hashlib.sha256(lines.encode()).hexdigest()[:12]
    return Written(Path(f"{os.fspath(out)}.inputs") / f"{name}-{digest}.jsonl", lines)  # type: ignore[call-overload]


def _lines(name: str, rows: object) -> str:
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        rows = json.loads(rows.to_json(orient="records", force_ascii=False))
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise UsageError(
            f"{name}: a {type(rows).__name__}; expected a path, a list of texts or of rows, a DataFrame or a "
            "Dataset (of a DatasetDict, one split)"
        )
    return "".join(_line(name, number, row) for number, row in enumerate(rows, start=1))


def _line(name: str, number: int, row: object) -> str:
    try:
        value = {"prompt": row} if isinstance(row, str) else dict(row)  # type: ignore[call-overload]
        return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            name, f"a row that JSON cannot hold ({error})", line=number, seen=row, expected="a text, or a row"
        ) from error

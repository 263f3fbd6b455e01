"""Tables on disk: Parquet, written in chunks, visible only when whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefgen.errors import UsageError

Row = Mapping[str, Any]
CHUNK = 2048
"""Rows held in memory before they are written as one row group."""

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

CANDIDATES = pa.schema(
    [
        ("candidate_id", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("response", pa.string()),
        ("policy", pa.string()),
        ("finish_reason", pa.string()),
        ("n_tokens", pa.int64()),
        ("seed", pa.int64()),
        ("sample", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("duplicate_of", pa.string()),
        ("columns", pa.string()),
    ]
)
JUDGMENTS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("a_id", pa.string()),
        ("b_id", pa.string()),
        ("order", pa.string()),
        ("judge", pa.string()),
        ("principle", pa.string()),
        ("status", pa.string()),
        ("log_odds", pa.float64()),
        ("p_a", pa.float64()),
        ("verdict", pa.string()),
        ("raw", pa.string()),
        ("cost", pa.float64()),
        ("coverage", pa.float64()),
        ("evidence", pa.string()),
        ("served", pa.string()),
        ("template", pa.string()),
        ("constitution", pa.string()),
        ("ledger_key", pa.string()),
    ]
)
SCORES = pa.schema(
    [
        ("candidate_id", pa.string()),
        ("prompt_id", pa.string()),
        ("score", pa.float64()),
        ("n_judgments", pa.int64()),
    ]
)
UNDECIDED = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", MESSAGES),
        ("response_a", pa.string()),
        ("response_b", pa.string()),
        ("prompt_id", pa.string()),
        ("a_id", pa.string()),
        ("b_id", pa.string()),
    ]
)


class TableWriter:
    """Appends rows to `path` by way of `path.part`; the file appears under its name on `publish`.

    Raises UsageError where the disk is full or cannot be written.
    """

    def __init__(self, path: Path, schema: pa.Schema, chunk: int = CHUNK) -> None:
        self.path, self._schema, self._chunk = path, schema, chunk
        self._part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows: list[Row] = []
        self.count = 0
        with _disk(path):
            self._writer = pq.ParquetWriter(self._part, schema, compression="zstd")

    def append(self, row: Row) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= self._chunk:
            self._flush()

    def _flush(self) -> None:
        # An empty table must have no row group at all: readers take a batch size from the first one.
        if not self._rows:
            return
        with _disk(self.path):
            self._writer.write_table(pa.Table.from_pylist([dict(row) for row in self._rows], self._schema))
        pa.default_memory_pool().release_unused()  # It keeps for itself what the largest chunk took.
        self._rows = []

    def publish(self) -> None:
        """Writes what is left and gives the file its name."""
        self._flush()
        with _disk(self.path):
            self._writer.close()
            self._part.replace(self.path)

    def abandon(self) -> None:
        """Leaves nothing behind. The error that led here is the one to tell, so no other is raised."""
        with suppress(OSError):
            self._writer.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)


class _disk:  # noqa: N801 - reads as a statement
    """Turns a full or broken disk into a message that says what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise UsageError(
                f"{self._path}: cannot be written ({error.strerror or error}); "
                "free disk space, then run the same command with --resume"
            ) from error


def read_table(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a chunk in memory at a time."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=CHUNK, columns=columns):
        yield from batch.to_pylist()

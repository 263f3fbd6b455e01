"""The ledger: every answer of every model, under the hash of the question, and what each run paid.

One SQLite file in WAL mode, shared by all runs and by several processes. A key is the SHA-256 of
(model identity, request, sample index); a value is a JSON object under zstd. `put` returns once the row is
committed, so a killed process loses at most the calls still in flight.

What is committed outlives the process at once (kill -9, a crash). A power cut may undo the last commits,
those since SQLite last synced the file, but never leaves it damaged: WAL with `synchronous = NORMAL`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from prefgen.claims import Claims
from prefgen.errors import UsageError
from prefgen.ledger_values import Packer
from prefgen.ledger_writer import Change, Paid, Writer
from prefgen.messages import Json, canonical

SCHEMA_VERSION = 2
"""1: answers. 2: answers and spending. A file of an older version is given what it lacks on opening."""
_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS answers (
        key BLOB NOT NULL UNIQUE,
        value BLOB NOT NULL,
        model TEXT NOT NULL,
        created TEXT NOT NULL DEFAULT (datetime('now'))
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS spending (
        run TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cost_usd REAL,
        PRIMARY KEY (run, model)
    )
    """,
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

__all__ = ["SCHEMA_VERSION", "Ledger", "LedgerError", "Paid", "default_path", "ledger_key"]


class LedgerError(UsageError):
    pass


def default_path() -> Path:
    """`$PREFGEN_LEDGER`, else `prefgen/ledger.sqlite` in the user's cache directory."""
    given = os.environ.get("PREFGEN_LEDGER")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "prefgen" / "ledger.sqlite"


def ledger_key(identity: str, question: Json, sample: int = 0) -> bytes:
    """The 32-byte content address of one answer."""
    return hashlib.sha256(canonical([identity, question, sample])).digest()


class Ledger:
    """Use as a context manager. Raises LedgerError where the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._packer = Packer()
        self.claims = Claims(path.with_name(path.name + "-asking"))
        self._reader = self._connect()
        self._writer = Writer(self._connect(), self._failed)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._reader.close()
        self.claims.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, dict[str, Json]]:
        """The values known, by key; keys that are not known are absent."""
        found: dict[bytes, dict[str, Json]] = {}
        try:
            for key in keys:
                row = self._reader.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = self._packer.unpack(row[0])
        except sqlite3.Error as error:
            raise self._failed(error) from error
        except ValueError as error:
            raise LedgerError(
                f"{self.path}: an answer is broken ({error}); `prefgen ledger verify --repair` removes such "
                "answers, so that they are asked for again; or name another file with --ledger"
            ) from error
        return found

    async def put(
        self, model: str, values: Mapping[bytes, dict[str, Json]], paid: Paid | None = None
    ) -> dict[bytes, dict[str, Json]]:
        """Stores values, and in the same transaction what they cost; returns when they are on disk.

        A key that another process stored in the meantime keeps its first value: the values returned are those
        that stand, so that all who asked go on with one answer. Cancelling the wait does not undo the write.
        """
        pack = self._packer.pack
        taken = await self._writer.put(
            lambda: [(key, pack(value), model) for key, value in values.items()], paid
        )
        return {**values, **self.get(list(taken))}

    def unpack(self, value: bytes) -> dict[str, Json]:
        """A stored value. Raises ValueError where it is broken."""
        return self._packer.unpack(value)

    async def charge(self, paid: Paid) -> None:
        """Adds what calls cost that gave no answer to keep."""
        await self._writer.write(paid=paid)

    def spent(self, run: str) -> dict[str, Paid]:
        """What a run has paid so far, by model; models without a call are absent."""
        rows = self.read("SELECT * FROM spending WHERE run = ? ORDER BY model", run)
        return {row[1]: Paid(*row) for row in rows}

    def add_tables(self, *statements: str) -> None:
        """Tables for a module of its own: `CREATE … IF NOT EXISTS` statements, in one transaction."""
        connection = self._connect()
        try:
            _all_or_none(connection, statements)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            connection.close()

    async def write(self, change: Change) -> None:
        """Runs `change(connection)` in the next transaction, in the writer's thread; returns when it is on
        disk. What it raises undoes it alone and is raised here."""
        await self._writer.write(change)

    def read(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, as committed by this and other processes."""
        try:
            return self._reader.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self.path}: a ledger of version {version}, this prefgen reads up to {SCHEMA_VERSION}; "
                "upgrade prefgen, or name another file with --ledger"
            )
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if tables and "answers" not in tables:
            raise LedgerError(
                f"{self.path}: a database that is not a ledger; name another file with --ledger"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < SCHEMA_VERSION:
            _all_or_none(connection, _SCHEMA)

    def _failed(self, error: BaseException) -> LedgerError:
        return LedgerError(
            f"{self.path}: the ledger cannot be used ({error}); "
            "free disk space, check its permissions, or name another file with --ledger"
        )


def _all_or_none(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)

"""The ledger: every answer of every model, under the hash of the question.

One SQLite file in WAL mode, shared by all runs and by several processes. A key is the SHA-256 of
(model identity, request, sample index); a value is a compressed JSON object. `put` returns once the
row is committed, so a killed process loses at most the calls still in flight. Commits are grouped by
one writer thread: as many rows as are waiting go into one transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import sqlite3
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from prefgen.errors import UsageError
from prefgen.messages import Json, canonical

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    model TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (datetime('now'))
)
"""
_Row = tuple[bytes, bytes, str]
_Job = tuple[list[_Row], asyncio.AbstractEventLoop, "asyncio.Future[None]"]


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
        self._reader, self._writing = self._connect(), self._connect()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
        self._writer.start()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.put(None)
        self._writer.join()
        self._reader.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, dict[str, Json]]:
        """The values known, by key; keys that are not known are absent."""
        found: dict[bytes, dict[str, Json]] = {}
        try:
            for key in keys:
                row = self._reader.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = json.loads(zlib.decompress(row[0]))
        except (sqlite3.Error, zlib.error, ValueError) as error:
            raise self._failed(error) from error
        return found

    async def put(self, model: str, values: Mapping[bytes, Mapping[str, Json]]) -> None:
        """Stores values and returns when they are on disk. Cancelling the wait does not undo the write.

        A key that another process stored in the meantime keeps its first value.
        """
        rows = [(key, zlib.compress(canonical(dict(value)), 1), model) for key, value in values.items()]
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._jobs.put((rows, loop, done))
        await done

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
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self.path}: a ledger of version {version}, this prefgen reads up to {SCHEMA_VERSION}; "
                "upgrade prefgen, or name another file with --ledger"
            )
        with connection:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _failed(self, error: BaseException) -> LedgerError:
        return LedgerError(
            f"{self.path}: the ledger cannot be used ({error}); "
            "free disk space, check its permissions, or name another file with --ledger"
        )

    def _write_forever(self) -> None:
        connection = self._writing
        open_for_more = True
        while open_for_more:
            jobs = [self._jobs.get()]
            while not self._jobs.empty() and len(jobs) < 1024:
                jobs.append(self._jobs.get())
            open_for_more = None not in jobs
            self._commit(connection, [job for job in jobs if job is not None])
        connection.close()

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job]) -> None:
        problem: LedgerError | None = None
        try:
            with connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO answers (key, value, model) VALUES (?, ?, ?)",
                    [row for rows, _, _ in jobs for row in rows],
                )
        except sqlite3.Error as error:
            problem = self._failed(error)
        for _, loop, done in jobs:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, done, problem)


def _settle(done: asyncio.Future[None], problem: LedgerError | None) -> None:
    if done.done():
        return
    if problem is None:
        done.set_result(None)
    else:
        done.set_exception(problem)

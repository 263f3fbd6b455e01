"""The ledger: every answer of every model, under the hash of the question, and what each run paid.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from prefgen.errors import UsageError
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
_INSERT = "INSERT OR IGNORE INTO answers (key, value, model) VALUES (?, ?, ?)"
# A sum with an unknown cost in it is unknown: in SQL, NULL plus anything is NULL.
_CHARGE = """
INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, model) DO UPDATE SET
    requests = requests + excluded.requests,
    input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    cost_usd = cost_usd + excluded.cost_usd
"""
_Row = tuple[bytes, bytes, str]
Change = Callable[[sqlite3.Connection], object]


@dataclass(frozen=True, slots=True)
class Paid:
    """What calls of one run to one model cost. `cached_tokens` are those of `input_tokens` that the provider
    had cached; `cost_usd` is None where a price is not known."""

    run: str
    model: str
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    rows: Sequence[_Row] = ()
    paid: Paid | None = None
    change: Change | None = None


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

    async def put(
        self, model: str, values: Mapping[bytes, Mapping[str, Json]], paid: Paid | None = None
    ) -> None:
        """Stores values, and in the same transaction what they cost; returns when they are on disk.

        Cancelling the wait does not undo the write. A key that another process stored in the meantime keeps
        its first value; what it cost here is counted all the same.
        """
        rows = [(key, zlib.compress(canonical(dict(value)), 1), model) for key, value in values.items()]
        await self._do(rows=rows, paid=paid)

    async def charge(self, paid: Paid) -> None:
        """Adds what calls cost that gave no answer to keep."""
        await self._do(paid=paid)

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
        await self._do(change=change)

    def read(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, as committed by this and other processes."""
        try:
            return self._reader.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    async def _do(
        self, rows: Sequence[_Row] = (), paid: Paid | None = None, change: Change | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        job = _Job(loop, loop.create_future(), rows, paid, change)
        self._jobs.put(job)
        await job.done

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
        problems: dict[int, Exception] = {}
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_INSERT, [row for job in jobs for row in job.rows])
                connection.executemany(_CHARGE, _sums(job.paid for job in jobs if job.paid is not None))
                for job in jobs:
                    if job.change is not None and (problem := _change(connection, job.change)):
                        problems[id(job)] = problem
        except sqlite3.Error as error:
            problems = dict.fromkeys(map(id, jobs), self._failed(error))
        for job in jobs:
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(_settle, job.done, problems.get(id(job)))


def _all_or_none(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)


def _sums(paid: Iterable[Paid]) -> list[tuple[object, ...]]:
    """One row of `spending` a run and model."""
    sums: dict[tuple[str, str], Paid] = {}
    for item in paid:
        key = item.run, item.model
        sums[key] = _plus(sums[key], item) if key in sums else item
    return [
        (p.run, p.model, p.requests, p.input_tokens, p.cached_tokens, p.output_tokens, p.cost_usd)
        for p in sums.values()
    ]


def _plus(one: Paid, other: Paid) -> Paid:
    known = one.cost_usd is not None and other.cost_usd is not None
    return Paid(
        one.run,
        one.model,
        one.requests + other.requests,
        one.input_tokens + other.input_tokens,
        one.cached_tokens + other.cached_tokens,
        one.output_tokens + other.output_tokens,
        (one.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
    )


def _change(connection: sqlite3.Connection, change: Change) -> Exception | None:
    """What the change raised, after it was undone alone."""
    connection.execute("SAVEPOINT change")
    try:
        change(connection)
    except Exception as error:
        connection.execute("ROLLBACK TO change")
        return error
    finally:
        connection.execute("RELEASE change")
    return None


def _settle(done: asyncio.Future[None], problem: Exception | None) -> None:
    if done.done():
        return
    if problem is None:
        done.set_result(None)
    else:
        done.set_exception(problem)

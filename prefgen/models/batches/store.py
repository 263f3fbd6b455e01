"""What stands open at which provider, in two tables of the ledger's file.

A batch is written down before it is sent, so that a killed process leaves at least its tag; and a question
belongs to one batch at most, whoever asks it. Answers are kept as the provider gave them until the ledger
has read ones in their place.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from prefgen.ledger import Ledger, LedgerError
from prefgen.models.batches.service import Result

T = TypeVar("T")
_TABLES = (
    """CREATE TABLE IF NOT EXISTS batches (
        tag TEXT PRIMARY KEY,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        id TEXT,
        state TEXT NOT NULL CHECK (state IN ('intended', 'open', 'ended', 'foreign')),
        requests INTEGER NOT NULL,
        created REAL NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS batch_requests (
        key BLOB PRIMARY KEY,
        answer BLOB NOT NULL,
        tag TEXT,
        tries INTEGER NOT NULL DEFAULT 0,
        status INTEGER,
        body BLOB
    )""",
    "CREATE INDEX IF NOT EXISTS batch_requests_tag ON batch_requests (tag)",
)


@dataclass(frozen=True, slots=True)
class Batch:
    """`id`: at the provider; None while it is not known whether it arrived. `created`: Unix time."""

    tag: str
    id: str | None
    state: str
    requests: int
    created: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. `tag`: of the batch it is in. `tries`: batches it came back from without an answer.
    `status`, `body`: its answer, once it is in."""

    key: bytes
    tag: str | None
    tries: int
    status: int | None
    body: bytes


def new_tag() -> str:
    return uuid.uuid4().hex[:16]


def custom_id(tag: str, key: bytes) -> str:
    """57 of the 64 characters a provider takes: which batch, and which question by its content."""
    return f"{tag}-{key.hex()[:40]}"


class BatchStore:
    """Beside an open ledger. Raises LedgerError where the file cannot be used."""

    def __init__(self, ledger: Ledger) -> None:
        self.path = ledger.path
        ledger.add_tables(*_TABLES)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        with self._failing():
            self._reader, self._writer = self._connect(), self._connect()

    def close(self) -> None:
        """Forgets what the ledger has by now."""
        self._thread.shutdown()
        with self._failing(), self._writer:
            self._writer.execute(
                "DELETE FROM batch_requests WHERE status IS NOT NULL AND answer IN (SELECT key FROM answers)"
            )
        self._reader.close()
        self._writer.close()

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Held by one process at a time, which the kernel sees to: a batch that is only intended while
        nobody holds this was left behind by a process that died."""
        with self.path.with_name(f"{self.path.name}.batches").open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.1)
            yield

    def find(self, key: bytes) -> Asked | None:
        query = "SELECT tag, tries, status, body FROM batch_requests WHERE key = ?"
        with self._failing():
            row = self._reader.execute(query, (key,)).fetchone()
            if row is None:
                return None
            tag, tries, status, body = row
            return Asked(key, tag, tries, status, zlib.decompress(body) if body else b"")

    def batch(self, tag: str) -> Batch | None:
        return next(self._batches("tag = ?", tag), None)

    def open_batches(self, model: str) -> list[Batch]:
        """Of a model, those whose answers are not in."""
        return list(self._batches("state IN ('intended', 'open') AND model = ? ORDER BY created", model))

    def known(self) -> frozenset[str]:
        """All ids at providers."""
        return frozenset(batch.id for batch in self._batches("id IS NOT NULL") if batch.id is not None)

    async def claim(self, tag: str, model: str, endpoint: str, asked: Sequence[tuple[bytes, bytes]]) -> None:
        """Writes down an intended batch of questions, (key, ledger key). The caller holds `sending()` and has
        seen that they are in no other."""

        def write(to: sqlite3.Connection) -> None:
            to.executemany(
                "INSERT INTO batch_requests (key, answer, tag) VALUES (?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET tag = excluded.tag",
                [(key, answer, tag) for key, answer in asked],
            )
            to.execute(
                "INSERT INTO batches VALUES (?, ?, ?, NULL, 'intended', ?, ?)",
                (tag, model, endpoint, len(asked), time.time()),
            )

        await self._write(write)

    def names(self, tag: str) -> dict[str, bytes]:
        """The questions of a batch by the ids they go under there."""
        with self._failing():
            rows = self._reader.execute("SELECT key FROM batch_requests WHERE tag = ?", (tag,))
            return {custom_id(tag, key): key for (key,) in rows}

    async def arrived(self, tag: str, batch: str) -> None:
        """The provider has it, under this id."""
        await self._run("UPDATE batches SET id = ?, state = 'open' WHERE tag = ?", (batch, tag))

    async def withdraw(self, tag: str, *, tried: bool) -> None:
        """The provider has nothing for it: its questions may be asked again. `tried`: it counts as a try."""

        def write(to: sqlite3.Connection) -> None:
            to.execute(
                "UPDATE batch_requests SET tag = NULL, tries = tries + ? WHERE tag = ? AND status IS NULL",
                (int(tried), tag),
            )
            to.execute("DELETE FROM batches WHERE tag = ?", (tag,))

        await self._write(write)

    async def disown(self, batch: Batch) -> None:
        """It was taken for one of ours and is not: ours may still be found."""
        await self._run("UPDATE batches SET id = NULL, state = 'intended' WHERE tag = ?", (batch.tag,))
        await self._run(
            "INSERT OR IGNORE INTO batches VALUES (?, '', '', ?, 'foreign', 0, 0)",
            (f"foreign {batch.id}", batch.id),
        )

    async def answered(self, tag: str, answers: Sequence[tuple[bytes, Result]]) -> None:
        """Writes down what came of questions of a batch; what is written already stays."""
        query = "UPDATE batch_requests SET status = ?, body = ? WHERE key = ? AND tag = ? AND status IS NULL"
        rows = [(item.status, zlib.compress(item.body, 1), key, tag) for key, item in answers]
        await self._write(lambda to: to.executemany(query, rows))

    async def ended(self, tag: str) -> int:
        """All of a batch's answers are in: what has none may be asked again. Returns how many that are."""

        def write(to: sqlite3.Connection) -> int:
            owed = to.execute(
                "UPDATE batch_requests SET tag = NULL, tries = tries + 1 WHERE tag = ? AND status IS NULL",
                (tag,),
            ).rowcount
            to.execute("UPDATE batches SET state = 'ended' WHERE tag = ?", (tag,))
            return owed

        return await self._write(write)

    async def owe(self, asked: Asked) -> None:
        """The answer was none: the question may be asked again."""
        await self._run(
            "UPDATE batch_requests SET tag = NULL, status = NULL, body = NULL, tries = tries + 1"
            " WHERE key = ? AND tag = ?",
            (asked.key, asked.tag),
        )

    async def forget(self, key: bytes) -> None:
        """The answer was told and is none to keep."""
        await self._run("DELETE FROM batch_requests WHERE key = ?", (key,))

    def _batches(self, where: str, *values: str) -> Iterator[Batch]:
        query = f"SELECT tag, id, state, requests, created FROM batches WHERE {where}"
        with self._failing():
            rows = self._reader.execute(query, values).fetchall()
        return (Batch(*row) for row in rows)

    async def _run(self, statement: str, values: tuple[object, ...]) -> None:
        await self._write(lambda to: to.execute(statement, values))

    async def _write(self, write: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction, off the event loop."""

        def run() -> T:
            with self._failing(), self._writer as connection:
                connection.execute("BEGIN IMMEDIATE")
                return write(connection)

        # Cancelling the wait does not undo the write: the thread ends it before the next, and before `close`.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, run))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        connection.isolation_level = None
        return connection

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, zlib.error) as error:
            raise LedgerError(f"{self.path}: the batches in the ledger cannot be used ({error})") from error

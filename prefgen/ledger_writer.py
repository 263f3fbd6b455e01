"""The ledger's one writing thread: what many tasks store goes to disk in few transactions."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from typing import NamedTuple

Change = Callable[[sqlite3.Connection], object]
Row = tuple[bytes, bytes, str]
"""Key, packed value, model."""

MOST_WAITING = 4096
"""Rows of one event loop that wait for the disk at most; who comes later waits to hand its rows over."""
_LINGER = 0.004
"""Seconds to wait for more rows where several came together: each round of the two threads takes the
interpreter lock back and forth, which costs more than the rows."""
_TOGETHER = 1024
"""Jobs in one transaction at most."""
# Each statement gives up the interpreter lock, and getting it back from a busy event loop may take 5 ms: many
# rows go in by one statement.
_INSERTS = {
    count: "INSERT OR IGNORE INTO answers (key, value, model) VALUES " + ", ".join(["(?, ?, ?)"] * count)
    for count in (64, 8, 1)
}
# A sum with an unknown cost in it is unknown: in SQL, NULL plus anything is NULL.
_CHARGE = """
INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, model) DO UPDATE SET
    requests = requests + excluded.requests,
    input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    cost_usd = cost_usd + excluded.cost_usd
"""


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

    def __add__(self, other: Paid) -> Paid:
        known = self.cost_usd is not None and other.cost_usd is not None
        return Paid(
            self.run,
            self.model,
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )


class _Job(NamedTuple):
    """Rows, what they cost, or a change of another kind; `done` belongs to the lane's loop and tells which
    keys were taken."""

    lane: _Lane
    done: asyncio.Future[set[bytes]]
    rows: Sequence[Row] = ()
    paid: Paid | None = None
    change: Change | None = None


class _Lane:
    """The rows of one event loop on their way to disk. Only that loop's thread touches it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting = 0
        self._outside: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Waits while too many rows wait for the disk; first come, first served."""
        while self.waiting >= MOST_WAITING:
            turn = self.loop.create_future()
            self._outside.append(turn)
            await turn

    def settle(self, jobs: Sequence[_Job], problems: dict[int, Exception], taken: set[bytes]) -> None:
        self.waiting -= sum(len(job.rows) for job in jobs)
        for job in jobs:
            if not job.done.done():
                if id(job) in problems:
                    job.done.set_exception(problems[id(job)])
                else:
                    job.done.set_result(taken and {key for key, _, _ in job.rows if key in taken})
        while self._outside:
            turn = self._outside.popleft()
            if not turn.done():
                turn.set_result(None)


class Writer:
    """Owns `connection`. `failed` makes the error to raise of SQLite's."""

    def __init__(self, connection: sqlite3.Connection, failed: Callable[[BaseException], Exception]) -> None:
        self.connection, self._failed = connection, failed
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
        self._thread.start()

    async def put(self, rows: Callable[[], Sequence[Row]], paid: Paid | None = None) -> set[bytes]:
        """Returns when all is on disk: the keys that were taken, whose first value stays. Cancelling the wait
        does not undo the write."""
        lane = self._lane()
        try:
            await lane.enter()
        finally:
            done = self._add(lane, rows(), paid)
        return await done

    async def write(self, change: Change | None = None, paid: Paid | None = None) -> None:
        """Returns when it is on disk. What `change` raises undoes it alone and is raised here."""
        await self._add(self._lane(), (), paid, change)

    def close(self) -> None:
        """Writes what is waiting, then ends."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()

    def _lane(self) -> _Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = _Lane(loop)
        return lane

    def _add(
        self, lane: _Lane, rows: Sequence[Row], paid: Paid | None, change: Change | None = None
    ) -> asyncio.Future[set[bytes]]:
        if self._closed:
            raise self._failed(RuntimeError("it is closed"))
        job = _Job(lane, lane.loop.create_future(), rows, paid, change)
        lane.waiting += len(rows)
        self._jobs.put(job)
        return job.done

    def _write_forever(self) -> None:
        open_for_more, several = True, False
        while open_for_more:
            jobs = [self._jobs.get()]
            if several:
                time.sleep(_LINGER)
            while not self._jobs.empty() and len(jobs) < _TOGETHER:
                jobs.append(self._jobs.get())
            open_for_more, several = None not in jobs, len(jobs) > 1
            self._commit([job for job in jobs if job is not None])
        self.connection.close()

    def _commit(self, jobs: Sequence[_Job]) -> None:
        problems, taken = dict[int, Exception](), set[bytes]()
        try:
            with self.connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                taken = _insert(connection, [row for job in jobs for row in job.rows])
                connection.executemany(_CHARGE, _sums(job.paid for job in jobs if job.paid is not None))
                for job in jobs:
                    if job.change is not None and (problem := _change(connection, job.change)):
                        problems[id(job)] = problem
        except Exception as error:
            if len(jobs) > 1 and not isinstance(error, sqlite3.OperationalError):
                # Something in one of them and not the disk: the others must not fail with it.
                for job in jobs:
                    self._commit([job])
                return
            problems = dict.fromkeys(map(id, jobs), self._failed(error))
        # One wake-up a loop, not one a row.
        for lane in {job.lane for job in jobs}:
            if not lane.loop.is_closed():
                of_lane = [job for job in jobs if job.lane is lane]
                lane.loop.call_soon_threadsafe(lane.settle, of_lane, problems, taken)


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> set[bytes]:
    """The keys that have another value already."""
    start, before = 0, connection.total_changes
    for count, statement in _INSERTS.items():
        while len(rows) - start >= count:
            connection.execute(statement, list(chain.from_iterable(rows[start : start + count])))
            start += count
    if connection.total_changes - before == len(rows):
        return set()
    look_up = "SELECT value FROM answers WHERE key = ?"
    return {key for key, value, _ in rows if connection.execute(look_up, (key,)).fetchone() != (value,)}


def _sums(paid: Iterable[Paid]) -> list[tuple[object, ...]]:
    """One row of `spending` a run and model."""
    sums: dict[tuple[str, str], Paid] = {}
    for item in paid:
        key = item.run, item.model
        sums[key] = sums[key] + item if key in sums else item
    return [astuple(item) for item in sums.values()]


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

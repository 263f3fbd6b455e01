"""The driver's side of the line: it hands out shards, keeps what comes back, and tells it in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from pipelines.distributed.crew import Crew
from pipelines.distributed.ledger import put_all
from pipelines.distributed.roles import DriverRoles
from pipelines.distributed.rows import Row, prompt_of, sampled_of, told_of, unpack
from pipelines.distributed.shards import Shards
from pipelines.distributed.stream import Stream
from pipelines.distributed.workers import Job
from pipelines.line import Work
from pipelines.outcome import Outcome
from prefgen.errors import BudgetError, GateError, ModelUnavailableError, PrefgenError, UsageError
from prefgen.prompt import Prompt

_ERRORS: dict[int, type[PrefgenError]] = {2: UsageError, 3: GateError, 4: BudgetError}
_BOOK_EVERY = 1.0
_GRACE = 30.0
"""Seconds that calls in flight are given when the run ends early."""


class _NodesLostError(Exception):
    pass


class RayLine:
    """See `pipelines.line.Outcomes`. `plan(work)`: the shards of a job."""

    def __init__(self, roles: DriverRoles, crew: Crew, job: Job, plan: Callable[[Work], Shards]) -> None:
        self._roles, self._crew, self._job, self._plan = roles, crew, job, plan
        self.pairing = job.pairing
        self._parts: dict[int, list[Row]] = {}
        self._back = asyncio.Event()

    async def outcomes(self, work: Work, finished: Callable[[], None]) -> AsyncGenerator[Outcome, None]:
        shards = self._plan(work)
        owed = set(shards.owed())
        self._finished = finished
        self._finish(sum(shards.length(shard) for shard in range(shards.count) if shard not in owed))
        working, booking = asyncio.create_task(self._work(shards, owed)), asyncio.create_task(self._book())
        try:
            prompts = (prompt for prompt, _ in work())
            for number in range(shards.count):
                while number in owed:
                    await self._news(working)
                for outcome in self._told(prompts, shards.rows(number)):
                    yield outcome
            await working
        finally:
            working.cancel()
            booking.cancel()
            await asyncio.wait([working, booking])
            await self._book_now()

    async def _book(self) -> None:
        """What the workers pay, in the run's ledger: a run killed at any moment knows what it has spent."""
        while True:
            await asyncio.sleep(_BOOK_EVERY)
            await self._book_now()

    async def _book_now(self) -> None:
        for paid in await self._crew.take_paid():
            await self._roles.ledger.charge(paid)

    async def _news(self, working: asyncio.Task[None]) -> None:
        """Until a shard came back; raises what ended the work."""
        news = asyncio.create_task(self._back.wait())
        await asyncio.wait([news, working], return_when=asyncio.FIRST_COMPLETED)
        news.cancel()
        self._back.clear()
        if working.done():
            working.result()

    async def _work(self, shards: Shards, owed: set[int]) -> None:
        """Until nothing is owed; whatever else happens, what is on its way back is kept."""
        while owed:
            before = len(owed)
            stream = self._crew.stream(self._job, shards, sorted(owed))
            try:
                async for table in stream.tables(self._look):
                    await self._receive(shards, owed, table)
            except _NodesLostError:
                await self._wind_up(shards, owed, stream)
                stream.end()
                self._crew.shrink()
                await self._crew.begin_calls()
                continue
            except BaseException:
                await self._wind_up(shards, owed, stream)
                raise
            finally:
                stream.end()
            if len(owed) == before:
                raise ModelUnavailableError(f"the workers ended without an answer; {before} shards are owed")

    def _look(self) -> None:
        if self._crew.is_too_large:
            raise _NodesLostError

    async def _receive(self, shards: Shards, owed: set[int], table: pa.Table) -> None:
        """Keeps rows on disk, a shard at a time, before anything is made of them."""
        errors = []
        for row in table.to_pylist():
            part = self._parts.setdefault(row["shard"], [])
            part.append(row)
            if len(part) < row["siblings"]:
                continue
            del self._parts[row["shard"]]
            await put_all(self._roles.ledger, unpack([each for one in part for each in one["answers"]]))
            if any(one["error"] is None or one["answers"] for one in part):
                shards.save(row["shard"], part)
            self._roles.count(part)
            self._finish(sum(one["error"] is None for one in part))
            errors += [one["error"] for one in part if one["error"] is not None]
            if not errors:
                owed.discard(row["shard"])
                self._back.set()
        if errors:
            code, message = json.loads(errors[0])
            raise _ERRORS[code](message)

    def _finish(self, prompts: int) -> None:
        for _ in range(prompts):
            self._finished()

    async def _wind_up(self, shards: Shards, owed: set[int], stream: Stream) -> None:
        """Nobody starts a call; those in flight are paid for, and so is what they bring."""
        self._parts.clear()
        await self._crew.end_calls(_GRACE)
        async for table in stream.rest():
            try:
                await self._receive(shards, owed, table)
            except PrefgenError:
                continue  # The one that ended the work is told.

    def _told(self, prompts: Iterator[Prompt], rows: list[Row]) -> Iterator[Outcome]:
        self._roles.recognise(rows)
        self.pairing = self._roles.weighed(self.pairing)
        for row, prompt in zip(rows, prompts, strict=False):
            assert prompt.id == prompt_of(row).id, "the prompts are those the shards were made of"
            told = told_of(row)
            outcome = self.pairing.outcome(prompt, sampled_of(row), told.results)
            yield replace(outcome, planted=told.planted)

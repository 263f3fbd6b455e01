"""One batch from the moment it is written down until its answers are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from prefgen.errors import CallError, DeadlineError, ModelUnavailableError, RateLimitError, TransientError
from prefgen.models.batches.service import NOT_RUN, BatchService, Progress, Result
from prefgen.models.batches.settings import BatchSettings
from prefgen.models.batches.store import Batch, BatchStore
from prefgen.models.http import NO_KEY, NoSuchRouteError

_CHUNK = 500
_DOWNLOADS = 3
_KEPT = 30 * 24 * 3600.0
"""Seconds after which no provider has a batch's results."""
_PASSING = (TransientError, DeadlineError, RateLimitError)


@dataclass(slots=True)
class _Read:
    """What a file of results held. `strange`: lines that are of no question of this batch."""

    known: set[bytes] = field(default_factory=set)
    answers: int = 0
    strange: int = 0
    repeated: int = 0


class Watcher:
    """Looks at the batches of one model. `tell`, `warn`: notes for people."""

    def __init__(
        self,
        service: BatchService,
        store: BatchStore,
        settings: BatchSettings,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._service, self._store, self._settings = service, store, settings
        self._tell, self._warn = tell, warn
        self._spec = service.endpoint.spec

    async def recover(self, batch: Batch) -> None:
        """Finds out whether a batch that was left behind arrived. The caller holds `store.sending()`."""
        if batch.state != "intended":
            return
        found = await self._find(batch)
        young = batch.created + self._settings.grace - time.time()
        if found is None and young > 0:
            await asyncio.sleep(min(young, self._settings.grace))
            found = await self._find(batch)
        if found is None:
            self._tell(
                f"{self._spec}: a batch of {batch.requests} requests had not arrived; it is sent again"
            )
            await self._store.withdraw(batch.tag, tried=True)
        else:
            self._tell(f"{self._at(found)}: sent by an interrupted run")
            await self._store.arrived(batch.tag, found)

    async def _find(self, batch: Batch) -> str | None:
        return await self._service.find(batch.tag, batch.requests, batch.created, self._store.known())

    async def follow(self, tag: str) -> Progress | None:
        """Until the batch's answers are in the store, or it turns out that there is none.

        Raises ModelUnavailableError where the provider is out of reach for too long, or knows it no more.
        """
        batch = self._store.batch(tag)
        if batch is not None and batch.state == "intended":
            async with self._store.sending():
                # Whoever held this before may have found it, or sent it.
                batch = self._store.batch(tag)
                if batch is not None:
                    await self.recover(batch)
            batch = self._store.batch(tag)
        if batch is None or batch.id is None or batch.state != "open":
            return None
        progress = await self._until_ended(batch, batch.id)
        if progress is None:
            return None
        if progress.lost:
            self._warn(f"{self._at(batch.id)}: its results are kept no longer; its questions are asked again")
        if progress.refused or progress.lost:
            await self._store.withdraw(tag, tried=not progress.full or batch.requests == 1)
        else:
            await self._fetch(batch, batch.id, progress.paid)
        return replace(progress, total=batch.requests)

    async def _until_ended(self, batch: Batch, name: str) -> Progress | None:
        """None: another process has seen it end."""
        wait, done, reached = min(10.0, self._settings.poll), 0, time.monotonic()
        while True:
            try:
                progress = await self._service.look(name)
            except _PASSING as error:
                self._check_patience(name, reached, error)
            except NoSuchRouteError as error:
                if time.time() - batch.created > _KEPT:
                    return Progress(batch.requests, 0, ended=True, lost=True)
                raise ModelUnavailableError(
                    f"{self._at(name)} is not known at {self._service.endpoint.url} ({error}); is the key of "
                    "the account that sent it? another --ledger asks its questions anew"
                ) from error
            else:
                reached = time.monotonic()
                if progress.done != done or progress.ended:
                    done = progress.done
                    self._tell(f"{self._at(name)}: {done} of {batch.requests} done")
                if progress.ended:
                    return progress
            await asyncio.sleep(wait)
            wait = min(1.5 * wait, self._settings.poll)
            now = self._store.batch(batch.tag)
            if now is None or now.state != "open":
                return None

    def _check_patience(self, name: str, since: float, error: CallError) -> None:
        if time.monotonic() - since > self._settings.patience:
            raise ModelUnavailableError(
                f"{self._at(name)} could not be looked at for {self._settings.patience:.0f} s ({error}); it "
                "goes on at the provider, and --resume collects it"
            ) from error

    async def _fetch(self, batch: Batch, name: str, paid: int) -> None:
        """All answers into the store. A file that is cut is read again; what it never holds is owed."""
        reached, cut = time.monotonic(), 0
        while True:
            try:
                read = await self._read(batch, name)
            except _PASSING as error:
                self._check_patience(name, reached, error)
            else:
                reached = time.monotonic()
                if read.answers >= paid or cut == _DOWNLOADS:
                    break
                cut += 1
                self._warn(f"{self._at(name)}: its results hold {read.answers} of {paid} answers; read again")
            await asyncio.sleep(min(10.0, self._settings.poll))
        if read.strange and not read.known:
            self._warn(f"{self._at(name)}: another's, not the one that was left behind")
            await self._store.disown(batch)
            return
        if read.strange or read.repeated:
            told = f"{read.strange} unknown and {read.repeated} repeated results"
            self._warn(f"{self._at(name)}: ignored {told}")
        owed = await self._store.ended(batch.tag)
        if owed:
            self._tell(f"{self._at(name)}: {owed} of {batch.requests} came back without an answer")

    async def _read(self, batch: Batch, name: str) -> _Read:
        names, read, chunk = self._store.names(batch.tag), _Read(), list[tuple[bytes, Result]]()
        async for result in self._service.results(name):
            key = names.get(result.custom_id)
            if key is None:
                read.strange += 1
                continue
            if key in read.known:
                read.repeated += 1
                continue
            read.known.add(key)
            read.answers += result.status == 200
            if result.status != NOT_RUN:
                chunk.append((key, self._scrubbed(result)))
            if len(chunk) == _CHUNK:
                await self._store.answered(batch.tag, chunk)
                chunk = []
        await self._store.answered(batch.tag, chunk)
        return read

    def _at(self, name: str) -> str:
        return f"batch {name} ({self._spec})"

    def _scrubbed(self, result: Result) -> Result:
        key = self._service.endpoint.key
        if key == NO_KEY or len(key) < 16 or key.encode() not in result.body:
            return result
        return Result(result.custom_id, result.status, result.body.replace(key.encode(), b"[key]"))

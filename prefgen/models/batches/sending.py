"""Questions gathered into batches, and the batches sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prefgen.completion import CompletionRequest
from prefgen.errors import (
    DeadlineError,
    PrefgenError,
    RateLimitError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.ledger import ledger_key
from prefgen.models.batches.service import Batchable, BatchService
from prefgen.models.batches.settings import BatchSettings
from prefgen.models.batches.store import BatchStore, custom_id, new_tag
from prefgen.models.batches.turns import Turns
from prefgen.models.batches.watching import Watcher

_Chosen = list[tuple["Question", bytes]]


@dataclass(frozen=True, slots=True)
class Question:
    """One request of a batch: those draws that one call gives."""

    key: bytes
    request: CompletionRequest


class Sender:
    """Sends what is gathered when a batch is full, or when nobody has asked for a moment and `busy()` says
    that nobody is about to; and not while `learning()`. `on_sent(tag, keys)`: told of each batch.

    What the model turned out not to do is not sent: who asked for it is told UnsupportedParameterError.
    """

    def __init__(
        self,
        adapter: Batchable,
        service: BatchService,
        store: BatchStore,
        watcher: Watcher,
        turns: Turns,
        settings: BatchSettings,
        busy: Callable[[], bool],
        learning: Callable[[], bool],
        tell: Callable[[str], None],
        on_sent: Callable[[str, Iterable[bytes]], None],
    ) -> None:
        self._adapter, self._service, self._store, self._watcher = adapter, service, store, watcher
        self._turns, self._settings = turns, settings
        self._busy, self._learning, self._tell, self._on_sent = busy, learning, tell, on_sent
        self._size = min(settings.size, service.most)
        self._pending: dict[bytes, Question] = {}
        self._work: asyncio.Task[None] | None = None
        self._arrived = 0
        self._not_before = 0.0
        self._sending = False

    def gather(self, question: Question) -> None:
        self._pending[question.key] = question
        self._arrived += 1
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._send_all())

    def leave(self) -> None:
        """Nothing more is sent, but what is being sent now."""
        self._pending.clear()
        if self._work is not None and not self._sending:
            self._work.cancel()

    async def aclose(self) -> None:
        self.leave()
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)

    def make_room(self, requests: int, alone: bool) -> None:
        """The provider's queue took no batch of so many. `alone`: it holds no other of ours, so that only
        smaller ones will fit."""
        if alone:
            self._size = max(1, requests // 2)
            told = f"the provider's queue takes no {requests} requests; now {self._size} a batch"
            self._tell(f"{self._adapter.spec}: {told}")
        self._hold(None)

    def payload(self, question: Question) -> dict[str, object]:
        return self._adapter.payload(question.request, question.request.samples)

    async def _send_all(self) -> None:
        try:
            while self._pending:
                await self._until_quiet()
                self._sending = True
                try:
                    await self._send()
                finally:
                    self._sending = False
        except Exception as error:
            self._turns.fail(error)
            self._pending.clear()

    async def _until_quiet(self) -> None:
        learnt_since = True
        while True:
            before, full, learning = self._arrived, len(self._pending) >= self._size, self._learning()
            await asyncio.sleep(0 if full and not learnt_since else self._settings.quiet)
            ready = full or (before == self._arrived and not self._busy())
            if ready and not learning and not self._learning() and time.monotonic() >= self._not_before:
                return
            learnt_since = learning

    async def _send(self) -> None:
        async with self._store.sending():
            for batch in self._store.open_batches(self._adapter.identity):
                await self._watcher.recover(batch)
            tag = new_tag()
            chosen = self._choose(tag)
            if chosen:
                await self._submit(tag, chosen)

    def _choose(self, tag: str) -> _Chosen:
        """What makes the next batch, each question with its line."""
        chosen, size = _Chosen(), 0
        for key, question in [*self._pending.items()]:
            found, lesson = self._store.find(key), self._outdated(question.request)
            if lesson is not None:
                self._turns.fail(lesson, [key])
            elif found is not None and found.tag is not None:
                self._turns.wake([key])
            else:
                line = self._service.line(custom_id(tag, key), self.payload(question))
                size += len(line) + 1
                if len(chosen) == self._size or (chosen and size > self._service.most_bytes):
                    break
                chosen.append((question, line))
            del self._pending[key]
        return chosen

    def _outdated(self, request: CompletionRequest) -> UnsupportedParameterError | None:
        """What was learnt since it was asked, and makes it another question."""
        capabilities = self._adapter.capabilities
        for name, wanted in (("n", len(request.samples) > 1), ("logprobs", request.label_words)):
            if wanted and capabilities.lacks(name):
                words = capabilities.learnt.get(name, f"{self._adapter.spec} does not do it")
                return UnsupportedParameterError(name, words)
        return None

    async def _submit(self, tag: str, chosen: _Chosen) -> None:
        keys, spec = [question.key for question, _ in chosen], self._adapter.spec
        await self._store.claim(
            tag,
            self._adapter.identity,
            self._service.endpoint.url,
            [(question.key, self._ledger_key(question.request)) for question, _ in chosen],
        )
        try:
            name = await self._service.submit(tag, [line for _, line in chosen])
        except RateLimitError as error:
            self._hold(error.retry_after)
            await self._store.withdraw(tag, tried=True)
            self._turns.wake(keys)
            return
        except (TransientError, DeadlineError) as error:
            self._tell(f"{spec}: {error}; whether the batch has arrived will be seen")
        except PrefgenError:
            await self._store.withdraw(tag, tried=False)
            raise
        else:
            await self._store.arrived(tag, name)
            self._tell(f"batch {name} ({spec}): {len(keys)} requests sent")
        self._on_sent(tag, keys)

    def _ledger_key(self, request: CompletionRequest) -> bytes:
        return ledger_key(self._adapter.identity, request.identity(), request.samples[0])

    def _hold(self, seconds: float | None) -> None:
        wait = self._settings.poll if seconds is None else seconds
        self._not_before = max(self._not_before, time.monotonic() + wait)

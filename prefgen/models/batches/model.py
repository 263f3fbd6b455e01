"""A model that is asked through its provider's batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from prefgen.completion import CompletionRequest, Model, Reply
from prefgen.engine import Budget
from prefgen.errors import (
    BudgetError,
    CallError,
    DeadlineError,
    ModelUnavailableError,
    PrefgenError,
    RateLimitError,
    RequestRefusedError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.ledger import ledger_key
from prefgen.messages import Json
from prefgen.models.batches.service import Batchable, BatchService
from prefgen.models.batches.settings import BatchSettings
from prefgen.models.batches.store import Asked, BatchStore, custom_id, new_tag
from prefgen.models.batches.watching import Watcher
from prefgen.models.http import each
from prefgen.models.wire import HTTPAnswer

_PASSING = (TransientError, DeadlineError, RateLimitError)
_MOST_LESSONS = 16


@dataclass(frozen=True, slots=True)
class _Question:
    """One request of a batch: those draws that one call gives."""

    key: bytes
    request: CompletionRequest


class BatchModel:
    """A `Model` over `direct`, the same model called at once, and `adapter`, which writes and reads its JSON.

    What is asked is gathered until a batch is full, or until nobody has asked for a moment and `busy()` says
    that nobody is about to. The first question with a set of parameters goes directly: what the model does
    not do is learnt in a second, and not by a batch that fails as a whole. Every question stands in the
    store, so that whoever asks it again, in this process or another, waits for the batch it is in.

    `complete` has no deadline. It raises what a direct call would; UnsupportedParameterError where a
    question wants log-probabilities that the model turned out not to give: asking it for other evidence is
    the caller's, and no batch is spent on finding that out.
    """

    def __init__(
        self,
        direct: Model,
        adapter: Batchable,
        service: BatchService,
        store: BatchStore,
        budget: Budget,
        settings: BatchSettings,
        *,
        busy: Callable[[], bool],
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._direct, self._adapter, self._service, self._store = direct, adapter, service, store
        self._budget, self._settings, self._busy, self._tell = budget, settings, busy, tell
        self._watcher = Watcher(service, store, settings, tell, warn)
        self._size = min(settings.size, service.most)
        self._pending: dict[bytes, _Question] = {}
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._inside: dict[str, set[bytes]] = {}
        self._pump: asyncio.Task[None] | None = None
        self._tried: set[frozenset[str]] = set()
        self._trying = self._arrived = 0
        self._not_before = 0.0
        self._sending = self._leaving = False
        self.spec, self.identity = adapter.spec, adapter.identity
        self.capabilities = adapter.capabilities

    def start(self) -> None:
        """Takes up the batches of this model that stand open."""
        for batch in self._store.open_batches(self.identity):
            self._follow(batch.tag)

    async def complete(self, request: CompletionRequest) -> Reply:
        for _ in range(_MOST_LESSONS):
            try:
                return await each(self._answer(question) for question in self._questions(request))
            except UnsupportedParameterError as error:
                self.capabilities.learn_missing(error.capability, str(error))
                if error.capability == "logprobs":
                    raise
                last = error
        raise RequestRefusedError(f"{self.spec} keeps refusing {last.capability}: {last}")

    def leave(self) -> None:
        """The run is ending, and nobody waits any longer. What is being sent is still sent and written down;
        what was sent goes on at the provider."""
        self._leaving = True
        if self._waiting:
            stand = self._store.open_batches(self.identity)
            told = f"{len(stand)} batches with {sum(batch.requests for batch in stand)} requests"
            self._tell(
                f"{self.spec}: {told} go on at the provider; the same command with --resume collects them"
            )
        self._fail([*self._waiting], BudgetError("the run is ending"))
        self._pending.clear()
        if self._pump is not None and not self._sending:
            self._pump.cancel()

    async def aclose(self) -> None:
        self.leave()
        tasks = [*self._following.values()]
        for task in tasks:
            task.cancel()
        if self._pump is not None:
            tasks.append(self._pump)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._store.close()
        await self._direct.aclose()

    def _questions(self, request: CompletionRequest) -> Iterator[_Question]:
        samples = request.samples
        in_a_row = samples == tuple(range(samples[0], samples[0] + len(samples)))
        together = in_a_row and not self.capabilities.lacks("n")
        for group in [samples] if together else [(sample,) for sample in samples]:
            asked: list[Json] = [request.identity(), list(group)]
            yield _Question(ledger_key(self.identity, asked), replace(request, samples=group))

    async def _answer(self, question: _Question) -> Reply:
        while True:
            found = self._store.find(question.key)
            if found is None and self._shape(question) not in self._tried:
                return await self._at_once(question)
            if found is not None and found.status is not None:
                reply = await self._read(question, found)
                if reply is not None:
                    return reply
            elif found is not None and found.tag is None and found.tries >= self._settings.attempts:
                await self._store.forget(question.key)
                raise TransientError(f"{self.spec}: no answer from {found.tries} batches")
            else:
                await self._wait(question, found.tag if found is not None else None)

    def _payload(self, question: _Question) -> dict[str, object]:
        return self._adapter.payload(question.request, question.request.samples)

    def _shape(self, question: _Question) -> frozenset[str]:
        return frozenset(self._payload(question))

    async def _at_once(self, question: _Question) -> Reply:
        self._tried.add(self._shape(question))
        self._trying += 1
        try:
            return await self._direct.complete(question.request)
        finally:
            self._trying -= 1
            self._arrived += 1

    async def _read(self, question: _Question, found: Asked) -> Reply | None:
        """The reply in an answer; None where it is none and the question is owed again."""
        try:
            if found.status != 200:
                raise await self._fault(question, found)
            return self._adapter.read(found.body, question.request, question.request.samples)
        except _PASSING:
            await self._store.owe(found)
            return None
        except CallError:
            await self._store.forget(found.key)
            raise

    async def _fault(self, question: _Question, found: Asked) -> PrefgenError:
        answer = HTTPAnswer(found.status or 500, {}, found.body)
        endpoint, path = self._service.endpoint, self._service.path
        return await endpoint.status_error(path, answer, self._payload(question))

    async def _wait(self, question: _Question, tag: str | None) -> None:
        """Until there is a reason to look into the store again."""
        if self._leaving:
            raise BudgetError("the run is ending")
        turn = self._waiting.get(question.key)
        if turn is None:
            turn = self._waiting[question.key] = asyncio.get_running_loop().create_future()
        if tag is not None:
            self._follow(tag, question.key)
        else:
            self._gather(question)
        # Others may wait for the same: one that gives up must not take it from them.
        await asyncio.shield(turn)

    def _wake(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            turn = self._waiting.pop(key, None)
            if turn is not None and not turn.done():
                turn.set_result(None)

    def _fail(self, keys: Iterable[bytes], error: Exception) -> None:
        for key in keys:
            turn = self._waiting.pop(key, None)
            if turn is not None and not turn.done():
                turn.set_exception(error)
                turn.exception()  # Marks it as seen: the waiter may be gone.

    def _gather(self, question: _Question) -> None:
        self._pending[question.key] = question
        self._arrived += 1
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._pending and not self._leaving:
                await self._until_quiet()
                self._sending = True
                try:
                    await self._send()
                finally:
                    self._sending = False
        except BudgetError as error:
            self._fail([*self._pending], error)
            self._pending.clear()
        except Exception as error:
            self._fail([*self._waiting], error)
            self._pending.clear()

    async def _until_quiet(self) -> None:
        while True:
            before, full = self._arrived, len(self._pending) >= self._size
            await asyncio.sleep(0 if full and not self._trying else self._settings.quiet)
            settled = full or (before == self._arrived and not self._busy())
            if settled and not self._trying and time.monotonic() >= self._not_before:
                return

    async def _send(self) -> None:
        async with self._store.sending():
            for batch in self._store.open_batches(self.identity):
                await self._watcher.recover(batch)
            tag = new_tag()
            chosen, broke = self._take(tag)
            if chosen:
                await self._submit(tag, chosen)
        if broke is not None:
            raise broke

    def _take(self, tag: str) -> tuple[list[tuple[_Question, bytes]], BudgetError | None]:
        """What makes the next batch, each question with its line, and why it is not more."""
        chosen, size = list[tuple[_Question, bytes]](), 0
        for key, question in [*self._pending.items()]:
            found, lesson = self._store.find(key), self._outdated(question)
            if lesson is not None or (found is not None and found.tag is not None):
                del self._pending[key]
                self._fail([key], lesson) if lesson else self._wake([key])
                continue
            line = self._service.line(custom_id(tag, key), self._payload(question))
            size += len(line) + 1
            if len(chosen) == self._size or (chosen and size > self._service.most_bytes):
                break
            try:
                self._budget.spend()
            except BudgetError as error:
                return chosen, error
            del self._pending[key]
            chosen.append((question, line))
        return chosen, None

    def _outdated(self, question: _Question) -> UnsupportedParameterError | None:
        """What was learnt since it was asked, and makes it another question."""
        request, lacks = question.request, self.capabilities.lacks
        if len(request.samples) > 1 and lacks("n"):
            return UnsupportedParameterError("n", f"{self.spec} gives one draw a call")
        if request.label_words and lacks("logprobs"):
            words = self.capabilities.learnt.get("logprobs", f"{self.spec} gives no log-probabilities")
            return UnsupportedParameterError("logprobs", words)
        return None

    async def _submit(self, tag: str, chosen: list[tuple[_Question, bytes]]) -> None:
        keys = [question.key for question, _ in chosen]
        answers = [self._answer_key(question) for question, _ in chosen]
        await self._store.claim(
            tag, self.identity, self._service.endpoint.url, [*zip(keys, answers, strict=True)]
        )
        try:
            name = await self._service.submit(tag, [line for _, line in chosen])
        except RateLimitError as error:
            self._hold(error.retry_after)
            await self._store.withdraw(tag, tried=True)
            self._wake(keys)
            return
        except (TransientError, DeadlineError) as error:
            self._tell(f"{self.spec}: {error}; whether the batch has arrived will be seen")
        except PrefgenError:
            await self._store.withdraw(tag, tried=False)
            raise
        else:
            await self._store.arrived(tag, name)
            self._tell(f"batch {name} ({self.spec}): {len(keys)} requests sent")
        self._follow(tag, *keys)

    def _answer_key(self, question: _Question) -> bytes:
        return ledger_key(self.identity, question.request.identity(), question.request.samples[0])

    def _hold(self, seconds: float | None) -> None:
        wait = self._settings.poll if seconds is None else seconds
        self._not_before = max(self._not_before, time.monotonic() + wait)

    def _follow(self, tag: str, *keys: bytes) -> None:
        self._inside.setdefault(tag, set()).update(keys)
        if tag not in self._following and not self._leaving:
            self._following[tag] = asyncio.create_task(self._collect(tag))

    async def _collect(self, tag: str) -> None:
        try:
            progress = await self._watcher.follow(tag)
            if progress is not None and progress.full:
                self._make_room(progress.total)
            elif progress is not None and progress.refused:
                raise ModelUnavailableError(f"{self.spec}: the batch was refused: {progress.refused}")
        except Exception as error:
            self._fail(self._leave_behind(tag), error)
        else:
            self._wake(self._leave_behind(tag))

    def _leave_behind(self, tag: str) -> set[bytes]:
        del self._following[tag]
        return self._inside.pop(tag)

    def _make_room(self, requests: int) -> None:
        """The provider's queue is full: wait for the other batches there, or send smaller ones."""
        if len(self._following) == 1:
            self._size = max(1, requests // 2)
            self._tell(
                f"{self.spec}: the provider's queue takes no {requests} requests; now {self._size} a batch"
            )
        self._hold(None)

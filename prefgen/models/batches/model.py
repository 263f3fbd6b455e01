"""A model that is asked through its provider's batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from prefgen.budget import Account
from prefgen.completion import CompletionRequest, Model, Reply
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
from prefgen.models.batches.sending import Question, Sender
from prefgen.models.batches.service import Batchable, BatchService
from prefgen.models.batches.settings import BatchSettings, directly
from prefgen.models.batches.store import Asked, BatchStore
from prefgen.models.batches.turns import Turns
from prefgen.models.batches.watching import Watcher
from prefgen.models.http import each
from prefgen.models.wire import HTTPAnswer

_AGAIN = (TransientError, DeadlineError, RateLimitError)
_MOST_LESSONS = 16


class BatchModel:
    """A `Model` over `direct`, the same model called at once, and `adapter`, which writes and reads its JSON.

    The first question with a set of parameters goes directly: what the model does not do is learnt in a
    second, and not by a batch that fails as a whole. The others are gathered (see `Sender`). Every question
    stands in the store, so that whoever asks it again, in this process or another, waits for the batch it is
    in.

    `complete` has no deadline. It raises what a direct call would; UnsupportedParameterError where a
    question wants log-probabilities that the model turned out not to give: to ask for other evidence is the
    caller's, and no batch is spent on finding that out. `account`: at the price of a batch. `tell`, `warn`:
    notes for people.
    """

    def __init__(
        self,
        direct: Model,
        adapter: Batchable,
        service: BatchService,
        store: BatchStore,
        account: Account,
        settings: BatchSettings,
        *,
        busy: Callable[[], bool],
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._direct, self._adapter, self._service, self._store = direct, adapter, service, store
        self._account, self._settings, self._tell, self._turns = account, settings, tell, Turns()
        self._watcher = Watcher(service, store, settings, tell, warn)
        self._sender = Sender(
            adapter, service, store, self._watcher, self._turns, settings,
            busy, lambda: bool(self._trying), tell, self._follow,
        )  # fmt: skip
        self._following: dict[str, asyncio.Task[None]] = {}
        self._inside: dict[str, set[bytes]] = {}
        self._tried: set[frozenset[str]] = set()
        self._trying = 0
        self._leaving = False
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
        stand = self._store.open_batches(self.identity) if self._turns else []
        if stand:
            told = f"{len(stand)} batches with {sum(batch.requests for batch in stand)} requests"
            self._tell(
                f"{self.spec}: {told} go on at the provider; the same command with --resume collects them"
            )
        self._sender.leave()
        self._turns.fail(BudgetError("the run is ending"))

    async def aclose(self) -> None:
        self.leave()
        await self._sender.aclose()
        tasks = [*self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._store.close()
        await self._direct.aclose()

    def _questions(self, request: CompletionRequest) -> Iterator[Question]:
        samples = request.samples
        in_a_row = samples == tuple(range(samples[0], samples[0] + len(samples)))
        together = in_a_row and not self.capabilities.lacks("n")
        for group in [samples] if together else [(sample,) for sample in samples]:
            asked: list[Json] = [request.identity(), list(group)]
            yield Question(ledger_key(self.identity, asked), replace(request, samples=group))

    async def _answer(self, question: Question) -> Reply:
        """What it may cost is set aside until the answer is in; of what was sent before, whatever is left."""
        found = self._store.find(question.key)
        if found is None and (directly.get() or self._shape(question) not in self._tried):
            return await self._at_once(question)
        budget, most, paid = self._account.budget, self._account.most(question.request), 0.0
        if found is not None and found.tag is not None:
            budget.owe(most)
        else:
            await budget.take(most)
        try:
            reply = await self._through_batch(question)
            paid = self._account.cost(question.request, reply, most)
        finally:
            budget.settle(most, paid)
        completions = tuple(replace(completion, batched=True) for completion in reply.completions)
        return replace(reply, completions=completions)

    async def _through_batch(self, question: Question) -> Reply:
        while True:
            found = self._store.find(question.key)
            if found is not None and found.status is not None:
                reply = await self._read(question, found)
                if reply is not None:
                    return reply
            elif found is not None and found.tag is None and found.tries >= self._settings.attempts:
                await self._store.forget(question.key)
                raise TransientError(f"{self.spec}: no answer from {found.tries} batches")
            else:
                await self._wait(question, found)

    def _shape(self, question: Question) -> frozenset[str]:
        return frozenset(self._sender.payload(question))

    async def _at_once(self, question: Question) -> Reply:
        self._tried.add(self._shape(question))
        self._trying += 1
        try:
            return await self._direct.complete(question.request)
        finally:
            self._trying -= 1

    async def _read(self, question: Question, found: Asked) -> Reply | None:
        """The reply in an answer; None where it is none and the question is owed again."""
        try:
            if found.status != 200:
                raise await self._fault(question, found)
            return self._adapter.read(found.body, question.request, question.request.samples)
        except _AGAIN:
            await self._store.owe(found)
            return None
        except CallError:
            await self._store.forget(found.key)
            raise

    async def _fault(self, question: Question, found: Asked) -> PrefgenError:
        answer = HTTPAnswer(found.status or 500, {}, found.body)
        endpoint, path = self._service.endpoint, self._service.path
        return await endpoint.status_error(path, answer, self._sender.payload(question))

    async def _wait(self, question: Question, found: Asked | None) -> None:
        """Until there is a reason to look into the store again."""
        if self._leaving:
            raise BudgetError("the run is ending")
        turn = self._turns.take(question.key)
        if found is not None and found.tag is not None:
            self._follow(found.tag, [question.key])
        else:
            self._sender.gather(question)
        await turn

    def _follow(self, tag: str, keys: Iterable[bytes] = ()) -> None:
        self._inside.setdefault(tag, set()).update(keys)
        if tag not in self._following and not self._leaving:
            self._following[tag] = asyncio.create_task(self._collect(tag))

    async def _collect(self, tag: str) -> None:
        try:
            progress = await self._watcher.follow(tag)
            if progress is not None and progress.full:
                self._sender.make_room(progress.total, alone=len(self._following) == 1)
            elif progress is not None and progress.refused:
                raise ModelUnavailableError(f"{self.spec}: the batch was refused: {progress.refused}")
        except Exception as error:
            self._turns.fail(error, self._forget(tag))
        else:
            self._turns.wake(self._forget(tag))

    def _forget(self, tag: str) -> set[bytes]:
        del self._following[tag]
        return self._inside.pop(tag)

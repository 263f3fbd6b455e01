"""How calls are made: how many at once, how long to wait, what to try again.

Each kind of failure has exactly one layer that answers it:

    429, overload            `Gate`: fewer at once, nobody before `Retry-After`; costs no attempt
    connection, 5xx, cut     `_attempt`, by tenacity: `attempts` tries with growing, jittered waits
    no answer in time        the same, after `deadline` seconds
    parameter refused        `_adapt`: learnt once, left out from then on
    unreadable judge reply   the judge (`judges/`), not here
    anything else            nobody: the caller records it
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import TypeVar

import tenacity

from prefgen.budget import Account
from prefgen.completion import Capabilities, CompletionRequest, Model, Reply, RewardModel
from prefgen.errors import (
    DeadlineError,
    RateLimitError,
    RequestRefusedError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.messages import Messages

T = TypeVar("T")
_CAPABILITIES = [field.name for field in fields(Capabilities) if field.name != "learnt"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`concurrency`: calls in flight at most. `deadline`: seconds for one attempt. `attempts`: tries of
    one call, 429s not counted. `patience`: seconds one call may spend being told to wait."""

    concurrency: int = 64
    deadline: float = 600.0
    attempts: int = 5
    patience: float = 1800.0
    first_wait: float = 0.5


class Gate:
    """Lets at most `limit` calls through; halves the limit when told to slow down, then grows it back
    by one for every `limit` successes (AIMD)."""

    def __init__(self, most: int) -> None:
        self.most, self.limit = most, float(most)
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed_until = 0.0
        self._reopening: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        while self._inside >= int(self.limit) or time.monotonic() < self._closed_until:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # A turn already given to us must go to the next in line.
                if turn.done() and not turn.cancelled():
                    self._admit()
                raise
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._admit()

    def succeeded(self) -> None:
        self.limit = min(self.most, self.limit + 1 / self.limit)

    def slow_down(self, seconds: float) -> None:
        """Nobody enters for `seconds`. Of several refusals at once only the first halves the limit."""
        now = time.monotonic()
        if now >= self._closed_until:
            self.limit = max(1.0, self.limit / 2)
        self._closed_until = max(self._closed_until, now + seconds)
        if self._reopening is not None:
            self._reopening.cancel()
        delay = self._closed_until - now
        self._reopening = asyncio.get_running_loop().call_later(delay + 0.001, self._admit)

    def _admit(self) -> None:
        if time.monotonic() < self._closed_until:
            return
        free = int(self.limit) - self._inside
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


class Engine:
    """A `Model` or `RewardModel` made dependable: bounded, retried, with a deadline on every wait."""

    def __init__(self, name: str, limits: Limits, account: Account) -> None:
        self.name, self.limits, self.account = name, limits, account
        self.gate = Gate(limits.concurrency)
        self.retries = 0
        self.rate_limited = 0

    async def call(self, send: Callable[[], Awaitable[T]], request: CompletionRequest | None = None) -> T:
        """`send()` until it answers. Raises the last CallError when the tries are used up. `request`: what is
        sent, for what it may cost."""
        told_to_wait_since: float | None = None
        refusals = 0
        while True:
            try:
                async with self.gate():
                    answer = await self._attempt(send, request)
                    self.gate.succeeded()
                    return answer
            except RateLimitError as error:
                now = time.monotonic()
                told_to_wait_since = told_to_wait_since or now
                if now - told_to_wait_since > self.limits.patience:
                    raise
                wait = error.retry_after
                self.gate.slow_down(min(60.0, self.limits.first_wait * 2**refusals) if wait is None else wait)
                refusals += 1
                self.rate_limited += 1

    async def _attempt(self, send: Callable[[], Awaitable[T]], request: CompletionRequest | None) -> T:
        first = self.limits.first_wait
        async for attempt in tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.limits.attempts),
            wait=tenacity.wait_exponential(multiplier=first, max=30) + tenacity.wait_random(0, first),
            retry=tenacity.retry_if_exception_type((TransientError, DeadlineError)),
            before_sleep=self._count_retry,
            reraise=True,
        ):
            with attempt:
                async with self.account.hold(request) as hold:
                    answer = await self._in_time(send)
                    hold.answered(answer)
                    return answer
        raise AssertionError("tenacity either returns or raises")

    def _count_retry(self, state: tenacity.RetryCallState) -> None:
        self.retries += 1

    async def _in_time(self, send: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self.limits.deadline) as clock:
                return await send()
        except TimeoutError as error:
            if not clock.expired():
                raise TransientError(f"{self.name}: {error or 'the connection timed out'}") from error
            raise DeadlineError(f"{self.name}: no answer within {self.limits.deadline:g} s") from error


class EngineModel:
    """A `Model` called through an engine; a parameter it refuses is left out from then on."""

    def __init__(self, model: Model, limits: Limits, account: Account) -> None:
        self._model = model
        self.engine = Engine(model.spec, limits, account)
        self.spec, self.identity = model.spec, model.identity
        self.capabilities = model.capabilities

    async def complete(self, request: CompletionRequest) -> Reply:
        return await self.engine.call(lambda: self._adapt(request), request)

    async def _adapt(self, request: CompletionRequest) -> Reply:
        # One refusal a capability, and one more for a call that was under way when another learnt it.
        for _ in range(2 * len(_CAPABILITIES)):
            try:
                return await self._model.complete(request)
            except UnsupportedParameterError as error:
                self.capabilities.learn_missing(error.capability, str(error))
                last = error
        raise RequestRefusedError(f"{self.spec} keeps refusing {last.capability}: {last}")

    async def aclose(self) -> None:
        await self._model.aclose()


class EngineRewardModel:
    """A `RewardModel` called through an engine."""

    def __init__(self, model: RewardModel, limits: Limits, account: Account) -> None:
        self._model = model
        self.engine = Engine(model.spec, limits, account)
        self.spec, self.identity = model.spec, model.identity

    async def score(self, messages: Messages, response: str) -> float:
        return await self.engine.call(lambda: self._model.score(messages, response))

    async def aclose(self) -> None:
        await self._model.aclose()

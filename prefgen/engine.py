"""How calls are made: how many at once, how long to wait, what to try again.

Each kind of failure has exactly one layer that answers it:

    429, overload            `Gate`: fewer at once, nobody before `Retry-After`; costs no attempt
    server gone away         the same, until it is back or patience ends
    connection, 5xx, cut     `Engine.call`, by tenacity: `attempts` tries with growing, jittered waits
    no answer in time        the same, after `deadline` seconds
    parameter refused        `_adapt`: learnt once, left out from then on
    unreadable judge reply   the judge (`judges/`), not here
    anything else            nobody: the caller records it
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import tenacity

from prefgen.budget import Account
from prefgen.completion import Capabilities, CompletionRequest, Model, Reply, RewardModel
from prefgen.errors import (
    DeadlineError,
    ModelUnavailableError,
    PrefgenError,
    RateLimitError,
    RequestRefusedError,
    ServerAwayError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.gate import Gate
from prefgen.messages import Messages
from prefgen.pace import Pace, PerMinute, Size
from prefgen.tokens import TokenEstimate

T = TypeVar("T")
_NOTHING, _AS_MANY_AS_IT_TAKES = Size(), PerMinute()
_AGAIN = (TransientError, DeadlineError)
_CAPABILITIES = [field.name for field in fields(Capabilities) if field.name != "learnt"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`concurrency`: calls in flight at most. `deadline`: seconds for one attempt. `attempts`: tries of
    one call, 429s not counted. `patience`: seconds one call may spend being told to wait. `per_minute`: what
    the provider allows."""

    concurrency: int = 64
    deadline: float = 600.0
    attempts: int = 5
    patience: float = 1800.0
    first_wait: float = 0.5
    per_minute: PerMinute = _AS_MANY_AS_IT_TAKES


class Engine:
    """A `Model` or `RewardModel` made dependable: bounded, paced, retried, with a deadline on every wait."""

    def __init__(self, name: str, limits: Limits, account: Account) -> None:
        self.name, self.limits, self.account = name, limits, account
        self.gate = Gate(limits.concurrency)
        self.pace = Pace(limits.per_minute)
        self.retries = 0
        self.rate_limited = 0

    async def call(
        self,
        send: Callable[[], Awaitable[T]],
        expected: Size = _NOTHING,
        request: CompletionRequest | None = None,
    ) -> T:
        """`send()` until it answers. Raises the last CallError when the tries are used up. `request`: what is
        sent, for what it may cost."""
        try:
            return await self._admitted(send, expected, request)
        except _AGAIN as error:
            if self.limits.attempts == 1:
                raise
            failure = error
        async for attempt in self._attempts():
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise failure  # The first attempt: the one above, which most calls need alone.
                return await self._admitted(send, expected, request)
        raise AssertionError("tenacity either returns or raises")

    def _attempts(self) -> tenacity.AsyncRetrying:
        first = self.limits.first_wait
        return tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.limits.attempts),
            wait=tenacity.wait_exponential(multiplier=first, max=30) + tenacity.wait_random(0, first),
            retry=tenacity.retry_if_exception_type(_AGAIN),
            before_sleep=self._count_retry,
            reraise=True,
        )

    def _count_retry(self, state: tenacity.RetryCallState) -> None:
        self.retries += 1

    async def _admitted(
        self, send: Callable[[], Awaitable[T]], expected: Size, request: CompletionRequest | None
    ) -> T:
        """One attempt, which starts over whenever the provider says to wait."""
        told_to_wait_since: float | None = None
        refusals = 0
        while True:
            await self.pace.enter(expected)
            await self.gate.enter()
            try:
                async with self.account.hold(request) as hold:
                    answer = await self._in_time(send)
                    hold.answered(answer)
                    return answer
            except RateLimitError as error:
                now = time.monotonic()
                told_to_wait_since = told_to_wait_since or now
                if now - told_to_wait_since > self.limits.patience:
                    raise _out_of_patience(error) from error
                wait = error.retry_after
                if wait is None:
                    wait = min(60.0, self.limits.first_wait * 2**refusals)
                alone = not self.gate.slow_down(wait)
                refusals += 1
                self.rate_limited += 1
            finally:
                self.gate.leave()
            if alone:
                await asyncio.sleep(wait)

    async def _in_time(self, send: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.limits.deadline) as clock:
                answer = await send()
        except TimeoutError as error:
            if not clock.expired():
                raise TransientError(f"{self.name}: {error or 'the connection timed out'}") from error
            self.gate.timed_out()
            raise DeadlineError(f"{self.name}: no answer within {self.limits.deadline:g} s") from error
        self.gate.succeeded(time.monotonic() - began)
        return answer


def _out_of_patience(error: RateLimitError) -> PrefgenError:
    """A server that does not come back ends the run: the calls after this one would wait as long."""
    if isinstance(error, ServerAwayError):
        return ModelUnavailableError(f"{error}; start it again, then run the same command with --resume")
    return error


class EngineModel:
    """A `Model` called through an engine; a parameter it refuses is left out from then on."""

    def __init__(self, model: Model, limits: Limits, account: Account) -> None:
        self._model = model
        self.engine = Engine(model.spec, limits, account)
        self._tokens = TokenEstimate()
        self.spec, self.identity = model.spec, model.identity
        self.capabilities = model.capabilities

    async def complete(self, request: CompletionRequest) -> Reply:
        expected = self._tokens.expect(request)
        reply = await self.engine.call(lambda: self._adapt(request), expected, request)
        self.engine.pace.correct(expected, self._tokens.learn(request, expected, reply))
        return reply

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

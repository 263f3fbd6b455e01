"""What a run may spend: so many requests, so many dollars, and not one more.

Before an attempt is sent, the most it can cost is set aside; after its answer what it did cost is booked and
the rest is free again. An attempt that finds too little left waits for others to be booked; only where none
is in flight is the budget reached. So what is booked and set aside never passes the cap, however many calls
are made at once.

The most an attempt can cost: `max_tokens` for every draw, and of input no more than one token a byte (no
byte-level tokenizer makes more), with 64 to spare a message for the chat template. Once 20 answers have told
how many tokens a byte makes, twice the most seen so far is enough. An attempt without an answer in time may
be billed all the same, and is booked at its most; one that was answered with an error costs nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from types import TracebackType

from prefgen.completion import CompletionRequest, Reply
from prefgen.errors import BudgetError, DeadlineError
from prefgen.prices import FREE, Price

_TEMPLATE = 64
"""Tokens a message may take besides its text."""
_ENOUGH = 20
"""Answers after which the tokens a byte makes are known."""
_ROUNDING = 1e-9


class Budget:
    """At most `requests` sent, failed tries included, and `cost_usd` spent by all models of a run. None: no
    limit."""

    def __init__(self, requests: int | None = None, cost_usd: float | None = None) -> None:
        self.requests, self.cost_usd = requests, cost_usd
        self.sent = 0
        self.paid_usd = 0.0
        self.closed = False
        self._held_usd = 0.0
        self._in_flight = 0
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    def begin(self, requests: int, cost_usd: float) -> None:
        """Counts what was spent before, by earlier attempts of the same run."""
        self.sent += requests
        self.paid_usd += cost_usd

    def close(self) -> None:
        """No further call: the run is ending, and those in flight are let finish."""
        self.closed = True
        self._refuse(BudgetError("the run is ending"))

    async def take(self, most: float) -> None:
        """Sets aside one request and `most` US dollars, when there is room. Raises BudgetError."""
        if self.closed:
            raise BudgetError("the run is ending")
        if not self._waiting and self._fits(most):
            self._hold(most)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((most, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.sent -= 1
                self.settle(most, 0.0)
            else:
                self._admit()
            raise

    def owe(self, most: float) -> None:
        """Sets aside what was sent before and will be billed, whether there is room or not."""
        self._hold(most)

    def settle(self, most: float, paid: float) -> None:
        """Books what `take` set aside at what it cost."""
        self._in_flight -= 1
        self._held_usd -= most
        self.paid_usd += paid
        if self._waiting:
            self._admit()

    def _fits(self, most: float) -> bool:
        if self.requests is not None and self.sent >= self.requests:
            return False
        return self.cost_usd is None or self.paid_usd + self._held_usd + most <= self.cost_usd + _ROUNDING

    def _hold(self, most: float) -> None:
        self.sent += 1
        self._in_flight += 1
        self._held_usd += most

    def _admit(self) -> None:
        """Who waits goes in turn, so that a dear call is not passed by cheap ones for ever."""
        while self._waiting:
            most, turn = self._waiting[0]
            if turn.done():  # Cancelled.
                self._waiting.popleft()
            elif self._fits(most):
                self._waiting.popleft()
                self._hold(most)
                turn.set_result(None)
            elif self._in_flight:
                return
            else:
                self._refuse(BudgetError(self._reached(most)))

    def _refuse(self, error: BudgetError) -> None:
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)

    def _reached(self, most: float) -> str:
        go_on = "nothing is lost: run the same command with --resume and a larger"
        if self.requests is not None and self.sent >= self.requests:
            return f"the budget of {self.requests} requests is used up; {go_on} --max-requests"
        return (
            f"the budget of ${self.cost_usd:.6g} is reached: ${self.paid_usd:.6g} is spent, and the next "
            f"call may cost ${most:.6g}; {go_on} --max-cost"
        )


class Account:
    """One model's part of a budget. `price`: None where it is not known, which goes with a budget without
    `cost_usd` only. `on_lost(usd)`: told of each attempt without an answer, and what it may have cost."""

    def __init__(
        self,
        budget: Budget | None = None,
        price: Price | None = FREE,
        on_lost: Callable[[float], None] | None = None,
    ) -> None:
        self.budget, self.on_lost = budget or Budget(), on_lost
        # Where nothing is capped or nothing costs, nobody asks.
        counts = self.budget.cost_usd is not None and price is not None and not price.free
        self._price = price if counts else None
        self._seen = 0
        self._tokens_a_byte = 0.0

    def hold(self, request: CompletionRequest | None = None) -> Hold:
        """Around one attempt: `async with account.hold(request) as hold: …; hold.answered(reply)`."""
        return Hold(self, request)

    def most(self, request: CompletionRequest | None) -> float:
        """US dollars that one attempt costs at most. Several draws may turn out to be a call each."""
        if request is None or self._price is None:
            return 0.0
        read = size(request) * self._rate * self._price.most_input
        return len(request.samples) * (read + request.sampling.max_tokens * self._price.output) / 1e6

    def cost(self, request: CompletionRequest | None, answer: object, most: float) -> float:
        """US dollars that an answer cost; what says nothing of its tokens is taken to have cost the most."""
        if request is None or self._price is None or not isinstance(answer, Reply):
            return 0.0
        first = answer.completions[0]
        if first.input_tokens is None or first.output_tokens is None:
            return most
        self._seen += 1
        self._tokens_a_byte = max(self._tokens_a_byte, first.input_tokens / size(request))
        return self._price.of(answer.completions)

    @property
    def _rate(self) -> float:
        """Tokens that a byte may make."""
        sure = max(1.0, self._tokens_a_byte)
        return sure if self._seen < _ENOUGH else min(sure, 2 * self._tokens_a_byte)


class Hold:
    """See `Account.hold`."""

    __slots__ = ("_account", "_most", "_paid", "_request")

    def __init__(self, account: Account, request: CompletionRequest | None) -> None:
        self._account, self._request = account, request
        self._most = 0.0
        self._paid: float | None = None

    async def __aenter__(self) -> Hold:
        self._most = self._account.most(self._request)
        await self._account.budget.take(self._most)
        return self

    def answered(self, answer: object) -> None:
        self._paid = self._account.cost(self._request, answer, self._most)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        paid = self._paid
        if paid is None:
            paid = self._most if isinstance(error, DeadlineError | asyncio.CancelledError) else 0.0
            if self._account.on_lost is not None:
                self._account.on_lost(paid)
        self._account.budget.settle(self._most, paid)


def size(request: CompletionRequest) -> int:
    """More than the tokens of a request, by a tokenizer that makes at most one of a byte."""
    texts = sum(_bytes(message.content) + _TEMPLATE for message in request.messages)
    asked = sum(map(_bytes, request.choices))
    return texts + asked + (len(json.dumps(dict(request.schema))) if request.schema is not None else 0)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))

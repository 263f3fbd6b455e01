"""A worker's part of what the broker leases, in the place of its engines' own limits."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pipelines.distributed.broker import Ask, Demand, Funds, Grant, Need, Slots
from prefgen.budget import Budget
from prefgen.engine import Engine
from prefgen.errors import BudgetError
from prefgen.gate import Gate
from prefgen.ledger import Paid

HEARTBEAT = 0.25
"""Seconds between two words with the broker while there is something to say."""
_SOONEST = 0.02


class LeasedGate(Gate):
    """Lets through as many calls as the worker holds slots, or fewer where the server gets slow. A refusal is
    told to the broker, which tells all."""

    def __init__(self, speak: Callable[[], None]) -> None:
        super().__init__(0)
        self._speak = speak
        self._succeeded = 0
        self._refused_for: float | None = None
        self._said = 0

    async def enter(self) -> None:
        if self._inside >= int(self.limit):
            self._speak()
        await super().enter()

    def leave(self) -> None:
        super().leave()
        if not self._inside:
            self._speak()  # Others may be waiting for what is of no use here.

    def succeeded(self, seconds: float) -> None:
        self._succeeded += 1
        if self.limit:
            super().succeeded(seconds)

    def slow_down(self, seconds: float) -> bool:
        if not super().slow_down(seconds):
            return False
        self._refused_for = max(seconds, self._refused_for or 0.0)
        self._speak()
        return True

    def _shrink(self, share: float) -> None:
        super()._shrink(share)
        self.limit = min(self.limit, self.most)

    def _see(self) -> None:
        super()._see()
        self.limit = min(self.limit, self.most)  # A trial that ended goes back to a limit of before.

    @property
    def idle(self) -> bool:
        return not (self.most or self._inside or self._waiting or self._said)

    def demand(self) -> Demand:
        """What to tell the broker; what happened is told once."""
        wanted = self._inside + len(self._waiting)
        self._said = max(self.most, self._inside)
        said = Demand(self._said, self._inside, wanted, self._succeeded, self._refused_for)
        self._succeeded, self._refused_for = 0, None
        return said

    def apply(self, slots: Slots) -> None:
        shrunk = self.limit < self.most
        self.most = slots.most
        self.limit = min(self.limit, self.most) if shrunk else float(self.most)
        if slots.closed_for:
            self.close(slots.closed_for)
        self._admit()
        if max(self.most, self._inside) < self._said:
            self._speak()  # What is given up counts as held until it is said.


class LeasedBudget(Budget):
    """Spends what was leased, asks for more in time, and gives back what is too much."""

    def __init__(self, requests: int | None, cost_usd: float | None, speak: Callable[[], None]) -> None:
        super().__init__(None if requests is None else 0, None if cost_usd is None else 0.0)
        self._whole = requests, cost_usd
        self._speak = speak
        self._told = Funds()

    @property
    def idle(self) -> bool:
        return not self._waiting and self._told == self._spent and self._free == Funds()

    @property
    def _spent(self) -> Funds:
        return Funds(self.sent, self.paid_usd)

    @property
    def _free(self) -> Funds:
        """Leased, and not for a call that is in flight."""
        requests = 0 if self.requests is None else self.requests - self.sent
        return Funds(
            requests, 0.0 if self.cost_usd is None else self.cost_usd - self.paid_usd - self._held_usd
        )

    def need(self, **more: Any) -> Need:
        """As much as is in flight is wanted for what follows. What does not do for a single call is of no use
        here and goes back."""
        waiting = Funds(len(self._waiting), sum(most for most, _ in self._waiting))
        stuck = bool(self._waiting) and not self._in_flight
        wanted = Funds() if stuck else waiting + Funds(self._in_flight, self._held_usd)
        if self.requests is not None:
            self.requests = min(self.requests, self.sent + int(wanted.requests))
        if self.cost_usd is not None:
            self.cost_usd = min(self.cost_usd, self.paid_usd + self._held_usd + wanted.usd)
        free, spent = self._free, self._spent
        first = Funds(1, self._waiting[0][0]) if self._waiting else Funds()
        least = self._lacking(first, free)
        new, self._told = spent - self._told, spent
        return Need(
            spent=new,
            leased=free + Funds(0, self._held_usd),
            least=least,
            more=self._lacking(waiting + wanted if stuck else wanted, free + least),
            **more,
        )

    def _lacking(self, wanted: Funds, free: Funds) -> Funds:
        lacking = wanted - free
        return Funds(
            0 if self.requests is None else max(0, lacking.requests),
            0.0 if self.cost_usd is None else max(0.0, lacking.usd),
        )

    def apply(self, grant: Grant) -> None:
        if self.requests is not None:
            self.requests += int(grant.lease.requests)
        if self.cost_usd is not None:
            self.cost_usd += grant.lease.usd
        self._admit()
        if grant.used_up and self._waiting:
            whole = Budget(*self._whole)
            whole.begin(int(grant.spent.requests), grant.spent.usd)
            self._refuse(BudgetError(whole._reached(self._waiting[0][0])))
        if grant.ending:
            self.close()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            most, turn = self._waiting.popleft()
            if not turn.done():
                self._hold(most)
                turn.set_result(None)
        if self._waiting:
            self._speak()


class Leases:
    """A worker's dealings with the broker. Made in its event loop. `share(model)`: the worker's part of what
    a provider allows a minute, which stays the same: calls that wait for their turn have it already."""

    def __init__(
        self, ask: Ask, requests: int | None, cost_usd: float | None, share: Callable[[str], float]
    ) -> None:
        self._ask, self._share, self._name = ask, share, uuid.uuid4().hex
        self._wake, self._speaking = asyncio.Event(), asyncio.Lock()
        self.budget = LeasedBudget(requests, cost_usd, self._wake.set)
        self._gates: dict[str, LeasedGate] = {}
        self._paid: list[Paid] = []
        self._closing = False
        self._talking = asyncio.create_task(self._talk())

    def limit(self, model: str, engine: Engine) -> None:
        """Puts the calls of a model under the limit of all."""
        self._gates[model] = engine.gate = LeasedGate(self._wake.set)
        engine.pace = engine.pace.share(self._share(model))

    def book(self, paid: Paid) -> None:
        self._paid.append(paid)
        self._wake.set()

    async def tell(self) -> None:
        """What was paid, now."""
        if self._paid:
            await self._speak()

    async def aclose(self) -> None:
        self._closing = True
        self._wake.set()
        await self._talking
        await self._speak()

    async def _talk(self) -> None:
        while not self._closing:
            idle = self.budget.idle and all(gate.idle for gate in self._gates.values())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if idle else HEARTBEAT)
            self._wake.clear()
            await self._speak()
            await asyncio.sleep(_SOONEST)

    async def _speak(self) -> None:
        async with self._speaking:
            paid, self._paid = tuple(self._paid), []
            calls = {model: gate.demand() for model, gate in self._gates.items()}
            grant = await self._ask(self.budget.need(worker=self._name, calls=calls, paid=paid))
            for model, slots in grant.calls.items():
                self._gates[model].apply(slots)
            self.budget.apply(grant)

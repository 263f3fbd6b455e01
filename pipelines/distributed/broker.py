"""One limit and one budget for all workers: the broker leases them out.

Every worker tells the broker a few times a second what it holds, wants and has seen, and is told what it may
do until the next time; calls themselves ask nobody. What all may do together never exceeds the limit: slots
that a worker shall give up count as held until it says that it has. A worker that has fallen silent holds
nothing any more; what it was leased of the budget and has not accounted for may have been spent, and counts
as spent.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prefgen.ledger import Paid

SILENCE = 30.0
"""Seconds after which a worker that was not heard of is taken for dead."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Demand:
    """A worker's calls of one model. `holding`: in flight, or to be started unasked; `inside`: in flight;
    `wanted`: in flight and waiting. Since it last spoke: how many `succeeded`, and the longest, in seconds,
    that a refused one was told to wait (None: none was refused)."""

    holding: int = 0
    inside: int = 0
    wanted: int = 0
    succeeded: int = 0
    refused_for: float | None = None


@dataclass(frozen=True, slots=True)
class Funds:
    """An amount of each thing a budget limits."""

    requests: float = 0
    usd: float = 0.0

    def __add__(self, other: Funds) -> Funds:
        return Funds(self.requests + other.requests, self.usd + other.usd)

    def __sub__(self, other: Funds) -> Funds:
        return Funds(self.requests - other.requests, self.usd - other.usd)


@dataclass(frozen=True, slots=True)
class Need:
    """What a worker says. `spent`: since it last spoke; `leased`: what it holds of the budget, for calls in
    flight too; `least`: without which it cannot go on, `more`: what it could use besides. `paid`: for what,
    to be booked."""

    worker: str
    calls: Mapping[str, Demand] = field(default_factory=dict)
    spent: Funds = Funds()
    leased: Funds = Funds()
    least: Funds = Funds()
    more: Funds = Funds()
    paid: tuple[Paid, ...] = ()


@dataclass(frozen=True, slots=True)
class Slots:
    """`most`: calls in flight; `closed_for`: seconds in which none may start."""

    most: int
    closed_for: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """`lease`: what may be spent besides. `used_up`: there is nothing left that anybody could give back,
    `spent` being what all have spent. `ending`: the run is."""

    calls: Mapping[str, Slots]
    lease: Funds = Funds()
    used_up: bool = False
    spent: Funds = Funds()
    ending: bool = False


Ask = Callable[[Need], Awaitable[Grant]]
"""A word with the broker, wherever it is."""


@dataclass(slots=True)
class _Limit:
    """How many calls of one model may be in flight: halved when refused, then grown back (AIMD)."""

    most: int
    now: float
    closed_until: float = -1e9
    held: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)

    def hear(self, worker: str, demand: Demand, time: float) -> Slots:
        if demand.refused_for is not None:
            if time >= self.closed_until:
                self.now = max(1.0, self.now / 2)
            self.closed_until = max(self.closed_until, time + demand.refused_for)
        elif demand.succeeded:
            self.now = min(self.most, self.now + demand.succeeded / self.now)
        self.held[worker], self.wanted[worker] = demand.holding, demand.wanted
        fair = fair_shares(int(self.now), self.wanted)[worker]
        free = int(self.now) - sum(self.held.values())
        slots = min(fair, demand.holding + max(0, free))
        self.held[worker] = max(slots, demand.holding)
        return Slots(slots, max(0.0, self.closed_until - time))

    def forget(self, worker: str) -> None:
        self.held.pop(worker, None)
        self.wanted.pop(worker, None)


class Broker:
    """Made an actor by `crew`. `concurrency`: calls of each model in flight; `requests`, `usd`: that all may
    spend, None where there is no limit; `spent`: by earlier attempts of the run. `silence`: see SILENCE."""

    def __init__(
        self,
        concurrency: int,
        requests: int | None = None,
        usd: float | None = None,
        spent: Funds = Funds(),
        silence: float = SILENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._concurrency = concurrency
        self._budget = Funds(
            float("inf") if requests is None else requests, float("inf") if usd is None else usd
        )
        self._spent = spent
        self._silence, self._clock = silence, clock
        self._limits: dict[str, _Limit] = {}
        self._leased: dict[str, Funds] = {}
        self._heard: dict[str, float] = {}
        self._paid: list[Paid] = []
        self._ending = False
        self._unheard: set[str] = set()
        self._finishing: set[str] = set()

    def speak(self, need: Need) -> Grant:
        """A worker's turn."""
        now = self._clock()
        self._bury(now)
        self._heard[need.worker] = now
        self._paid += need.paid
        self._wait_for(need)
        slots = {model: self._limit(model).hear(need.worker, said, now) for model, said in need.calls.items()}
        lease, used_up = self._lease(need)
        return Grant(slots, lease, used_up, self._spent, self._ending)

    def _limit(self, model: str) -> _Limit:
        return self._limits.setdefault(model, _Limit(self._concurrency, self._concurrency))

    def _lease(self, need: Need) -> tuple[Funds, bool]:
        """What is wanted, but at most a part of what is left, so that nobody sits on it."""
        self._spent += need.spent
        self._leased[need.worker] = need.leased
        out = sum(self._leased.values(), Funds())
        left = self._budget - self._spent - out
        share = 2 * len(self._leased)
        if left.requests < need.least.requests or left.usd < need.least.usd - _ROUNDING:
            return Funds(), not out.requests and out.usd <= _ROUNDING
        lease = Funds(
            need.least.requests
            + int(max(0, min(need.more.requests, left.requests / share - need.least.requests))),
            need.least.usd + max(0.0, min(need.more.usd, left.usd / share - need.least.usd)),
        )
        self._leased[need.worker] += lease
        return lease, False

    def _bury(self, now: float) -> None:
        for worker in [worker for worker, heard in self._heard.items() if now - heard > self._silence]:
            self._spent += self._leased.get(worker, Funds())
            self.leave(worker)

    def leave(self, worker: str) -> None:
        """The worker has no call in flight and starts none."""
        self._heard.pop(worker, None)
        self._leased.pop(worker, None)
        self._unheard.discard(worker)
        self._finishing.discard(worker)
        for limit in self._limits.values():
            limit.forget(worker)

    def end(self, ending: bool) -> None:
        """Nobody starts a call as long as the run is `ending`; those in flight are let finish."""
        self._ending = ending
        callers = {worker for limit in self._limits.values() for worker, held in limit.held.items() if held}
        self._unheard, self._finishing = callers, set(callers)

    def _wait_for(self, need: Need) -> None:
        """Who has been told that the run ends, and then says that it has no call in flight, has finished."""
        if need.worker in self._unheard:
            self._unheard.discard(need.worker)
        elif not any(said.inside for said in need.calls.values()):
            self._finishing.discard(need.worker)

    def finished(self) -> bool:
        """Whether no call is in flight any more after the end."""
        self._bury(self._clock())
        return not self._finishing

    def take_paid(self) -> list[Paid]:
        """What was paid since this was last called."""
        paid, self._paid = self._paid, []
        return paid


def fair_shares(limit: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """`limit` divided so that nobody gets more than it wants while another gets less than it wants and less
    than that; what is over is divided among those who want any."""
    hungry = sorted((name for name in wanted if wanted[name]), key=lambda name: (wanted[name], name))
    shares = dict.fromkeys(wanted, 0)
    left = limit
    for number, name in enumerate(hungry):
        shares[name] = min(wanted[name], left // (len(hungry) - number))
        left -= shares[name]
    for number, name in enumerate(hungry):
        shares[name] += left // len(hungry) + (number < left % len(hungry))
    return shares

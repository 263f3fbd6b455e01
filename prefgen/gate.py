"""How many calls are under way at once: as many as the server takes (AIMD)."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass
from statistics import median

_LEAST_WINDOW = 32
_TIMEOUTS = 0.1
"""Share of calls without an answer in time from which on the limit is halved."""
_REFUSALS = 0.12
"""Share of calls refused, of about as many as the limit lets through at once, from which on the provider is
taken at its word."""
_SLOWER, _FEWER, _HELD = 2.0, 0.75, 0.9
"""Calls this many times slower than at their fastest: this share of them at once is tried, and stays where it
keeps this share of the throughput."""
_BORNE = 1.5
"""After a trial in vain calls may be this many times slower before the next one."""


@dataclass(frozen=True, slots=True)
class _Trial:
    limit: float
    throughput: float


class Gate:
    """Lets at most `limit` calls through, first come first served.

    A refusal (429, overload) halves the limit where refusals are not rare, and so does a window of calls of
    which many got no answer in time; every `limit` successes raise it by one (AIMD). Where calls have become
    twice as slow, fewer at once are tried, and kept where the throughput holds: calls that only queue in the
    server meet its deadline.
    """

    def __init__(self, most: int) -> None:
        self.most, self.limit = most, float(most)
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed_until = 0.0
        self._reopening: asyncio.TimerHandle | None = None
        self._refused = 0.0
        self._fastest = math.inf
        self._slow = False
        self._trial: _Trial | None = None
        self._begin_window(settling=False)

    async def enter(self) -> None:
        if not self._waiting and self._inside < int(self.limit) and time.monotonic() >= self._closed_until:
            self._inside += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self._inside -= 1
        self._admit()

    def succeeded(self, seconds: float) -> None:
        self._remember(refused=False)
        self.limit = min(self.most, self.limit + 1 / self.limit)
        self._seconds.append(seconds)
        self._see()

    def timed_out(self) -> None:
        self._timeouts += 1
        self._see()

    def slow_down(self, seconds: float) -> bool:
        """After a refusal: nobody enters for `seconds`. Of several refusals at once only the first halves the
        limit. False where refusals are rare: then it is only the refused call that should wait."""
        self._remember(refused=True)
        if self._refused < _REFUSALS:
            return False
        if time.monotonic() >= self._closed_until:
            self._shrink(0.5)
        self.close(seconds)
        return True

    def close(self, seconds: float) -> None:
        """Nobody enters for `seconds`."""
        now = time.monotonic()
        self._closed_until = max(self._closed_until, now + seconds)
        if self._reopening is not None:
            self._reopening.cancel()
        delay = self._closed_until - now
        self._reopening = asyncio.get_running_loop().call_later(delay + 0.001, self._admit)

    def _remember(self, *, refused: bool) -> None:
        self._refused += (refused - self._refused) / max(8.0, self.limit)

    def _admit(self) -> None:
        if time.monotonic() < self._closed_until:
            return
        while self._waiting and self._inside < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                # The place is taken for the waiter here, so that no newcomer takes it before.
                self._inside += 1
                turn.set_result(None)

    def _begin_window(self, *, settling: bool) -> None:
        """`settling`: the calls of this window began under another limit and tell nothing."""
        self._settling = settling
        self._seconds: list[float] = []
        self._timeouts = 0
        self._began = time.monotonic()

    def _see(self) -> None:
        if len(self._seconds) + self._timeouts >= max(_LEAST_WINDOW, 2 * self.limit):
            self._end_window()

    def _end_window(self) -> None:
        calls = len(self._seconds) + self._timeouts
        if self._settling:
            self._begin_window(settling=False)
        elif self._timeouts > _TIMEOUTS * calls:
            self._shrink(0.5)
        else:
            self._judge(len(self._seconds) / max(1e-9, time.monotonic() - self._began), median(self._seconds))

    def _judge(self, throughput: float, seconds: float) -> None:
        trial, self._trial = self._trial, None
        self._fastest = min(self._fastest, seconds)
        # The first slow window has fast calls in it: its throughput is no measure for the trial.
        slow_before, self._slow = self._slow, seconds > _SLOWER * self._fastest
        if trial is not None and throughput < _HELD * trial.throughput:
            # Fewer calls only finished fewer: the server may be as slow as this whatever we do.
            self.limit, self._fastest = trial.limit, _BORNE * self._fastest
            self._begin_window(settling=True)
        elif self._waiting and self._slow and slow_before:
            # Of trials in a row the first is what the last is held to: small losses must not add up.
            self._trial = _Trial(self.limit, throughput if trial is None else trial.throughput)
            self._shrink(_FEWER)
        else:
            self._begin_window(settling=False)

    def _shrink(self, share: float) -> None:
        self.limit = max(1.0, self.limit * share)
        self._begin_window(settling=True)

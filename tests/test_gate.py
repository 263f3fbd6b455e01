"""The gate: as many calls at once as the server takes, first come first served."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from prefgen.gate import Gate


async def test_many_refusals_at_once_halve_once_and_successes_grow_it_back() -> None:
    gate = Gate(16)
    for _ in range(10):
        gate.slow_down(0.01)
    assert gate.limit == 8
    for _ in range(200):
        gate.succeeded(0.1)
    assert gate.limit == 16


async def test_rare_refusals_close_nothing_and_many_do() -> None:
    gate = Gate(64)
    for number in range(2000):
        if number % 20 == 10:  # One in twenty is refused, as by a server that refuses at random.
            gate.slow_down(0.0)
        else:
            gate.succeeded(0.1)
    assert gate.limit > 50
    assert not gate.slow_down(60)
    assert [gate.slow_down(60) for _ in range(12)][-1]
    assert gate.limit < 40


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    gate, order = Gate(1), list[int]()

    async def enter(number: int) -> None:
        await gate.enter()
        order.append(number)
        await asyncio.sleep(0)
        gate.leave()

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(enter(number))
            if number % 3 == 0:
                await asyncio.sleep(0)
    assert order == list(range(50))


async def test_a_place_given_to_one_who_is_cancelled_goes_to_the_next() -> None:
    gate = Gate(1)
    await gate.enter()
    first, second = (asyncio.create_task(gate.enter()) for _ in range(2))
    await asyncio.sleep(0)
    gate.leave()
    first.cancel()
    await asyncio.wait_for(second, 1)
    gate.leave()
    await asyncio.wait_for(gate.enter(), 1)


async def test_nobody_enters_while_it_is_closed() -> None:
    gate = Gate(4)
    gate.slow_down(0.05)
    start = time.monotonic()
    await asyncio.gather(*(gate.enter() for _ in range(2)))
    assert time.monotonic() - start >= 0.05


def test_many_timeouts_halve_it_and_few_do_not() -> None:
    gate = Gate(64)
    for number in range(1280):
        gate.timed_out() if number % 100 == 0 else gate.succeeded(1.0)
    assert gate.limit == 64
    for _ in range(128):
        gate.timed_out()
    assert gate.limit == 32


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop that does not wait: its clock jumps to the next thing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector.select, ready = self._jump, self._selector.select  # type: ignore[attr-defined]
        self._ready_now = ready

    def time(self) -> float:
        return self.now

    def _jump(self, timeout: float | None) -> Any:
        self.now += timeout or 0.0
        return self._ready_now(0)


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        clock = SimpleNamespace(monotonic=runner.get_loop().time)
        monkeypatch.setattr("prefgen.gate.time", clock)
        yield runner


class Server:
    """Serves `width` calls at once in `base` seconds each; more than that wait in it for one another."""

    def __init__(self, gate: Gate, base: float, width: float) -> None:
        self.gate, self.base, self.width = gate, base, width
        self.chances = random.Random(0)

    def seconds(self) -> float:
        """A fifth more or less by chance."""
        return self.base * max(1.0, self.gate._inside / self.width) * self.chances.uniform(0.8, 1.2)


async def drive(gate: Gate, server: Server, calls: int) -> list[float]:
    """The limit at the end of each call."""
    work, limits = iter(range(calls)), list[float]()
    loop = asyncio.get_running_loop()

    async def asker() -> None:
        for _ in work:
            await gate.enter()
            began = loop.time()
            await asyncio.sleep(server.seconds())
            gate.leave()
            gate.succeeded(loop.time() - began)
            limits.append(gate.limit)

    await asyncio.gather(*(asker() for _ in range(2 * gate.most)))
    return limits


def test_a_server_that_queues_is_asked_less_at_once(virtual: asyncio.Runner) -> None:
    gate = Gate(64)
    server = Server(gate, 1.0, 64)
    virtual.run(drive(gate, server, 640))
    assert gate.limit == 64
    server.width = 8  # It has got company: 64 calls at once take eight times as long as 8.
    limits = virtual.run(drive(gate, server, 6000))
    # Twice as slow as at its best is borne, 16 at once; or 24 after a trial that failed by chance.
    assert all(12 < limit < 32 for limit in limits[1000:2800])


def test_a_server_that_is_only_slower_keeps_its_calls(virtual: asyncio.Runner) -> None:
    """Fewer at once would finish fewer: after some trials the limit stays."""
    gate = Gate(32)
    server = Server(gate, 1.0, 64)
    virtual.run(drive(gate, server, 320))
    server.base = 6.0
    limits = virtual.run(drive(gate, server, 2000))
    assert 24 <= min(limits) < 32
    assert set(limits[1000:]) == {32}

"""Many prompts at once, their outcomes in order."""

from __future__ import annotations

import asyncio

import pytest

from pipelines.line import in_order


async def test_results_come_in_order_and_a_slow_one_holds_up_no_other() -> None:
    release, done = asyncio.Event(), list[int]()

    async def work(number: int) -> int:
        if number == 0:
            await release.wait()
        done.append(number)
        if len(done) == 11:
            release.set()  # The eleven that may go ahead of the first: only then it ends.
        return number

    results = [number async for number in in_order(map(work, range(40)), window=3, ahead=12)]
    assert results == list(range(40))
    assert done[:11] == list(range(1, 12))


async def test_no_more_than_the_window_is_under_way() -> None:
    inside, most = 0, 0

    async def work(number: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001 * (number % 3))
        inside -= 1
        return number

    results = [number async for number in in_order(map(work, range(50)), window=5)]
    assert results == list(range(50))
    assert most == 5


async def test_a_failure_ends_all_though_an_earlier_one_hangs() -> None:
    ended = list[int]()

    async def work(number: int) -> int:
        if number == 2:
            raise ValueError("number two")
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(number)
        return number

    with pytest.raises(ValueError, match="number two"):
        async for _ in in_order(map(work, range(10)), window=4):
            pass
    assert ended == [0, 1, 3]

"""Requests that arrive one by one, run together: what a model without an engine of its own needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers what arrives within `wait` seconds and runs it in batches of `size` in one thread,
    sorted by `length` so that a batch holds little padding."""

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        length: Callable[[Item], int],
        size: int = 16,
        wait: float = 0.005,
    ) -> None:
        self._run, self._length, self._size, self._wait = run, length, size, wait
        self._pending: list[tuple[Item, asyncio.Future[Result]]] = []
        self._pump: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefgen-model")

    async def submit(self, item: Item) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._work())
        return await future

    async def aclose(self) -> None:
        """Lets the batch in hand finish; what still waits is cancelled."""
        for _, future in self._pending:
            future.cancel()
        if self._pump is not None:
            await self._pump
        self._thread.shutdown()

    async def _work(self) -> None:
        await asyncio.sleep(self._wait)
        while self._pending:
            waiting = [entry for entry in self._pending if not entry[1].done()]
            waiting.sort(key=lambda entry: self._length(entry[0]))
            batch, self._pending = waiting[: self._size], waiting[self._size :]
            if batch:
                await self._run_batch(batch)

    async def _run_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._run, [item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

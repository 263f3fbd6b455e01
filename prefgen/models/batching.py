"""Requests that arrive one by one, run together: what a model without an engine of its own needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Lengths = tuple[int, ...]
# Padding that is dearer than a further batch: so many tokens, and this share of a batch's.
_MUCH, _SHARE = 2048, 0.2


class Batcher(Generic[Item, Result]):
    """Gathers what arrives within `wait` seconds and runs it in batches in one thread.

    All that waits is sorted by its lengths, so that a batch holds little padding, and is run to its end
    before what came later, so that nothing waits for ever. A batch has at most `rows` items and, padded,
    `tokens`: its rows times the sum of its greatest lengths. It ends sooner where the next item would bring
    much padding; an item that is too long for any batch runs alone.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        lengths: Callable[[Item], Lengths],
        rows: int = 64,
        tokens: int = 32_768,
        wait: float = 0.005,
    ) -> None:
        self._run, self._lengths, self._wait = run, lengths, wait
        self._rows, self._tokens = rows, tokens
        self._arrived: list[tuple[Item, asyncio.Future[Result]]] = []
        self._sorted: list[tuple[Item, asyncio.Future[Result]]] = []
        self._pump: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefgen-model")

    async def submit(self, item: Item) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._arrived.append((item, future))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._work())
        return await future

    async def aclose(self) -> None:
        """Lets the batch in hand finish; what still waits is cancelled."""
        for _, future in (*self._arrived, *self._sorted):
            future.cancel()
        if self._pump is not None:
            await self._pump
        self._thread.shutdown()

    async def _work(self) -> None:
        await asyncio.sleep(self._wait)
        while self._arrived or self._sorted:
            if not self._sorted:
                self._sorted = sorted(self._arrived, key=lambda entry: self._lengths(entry[0]))
                self._arrived = []
            if batch := self._next_batch():
                await self._run_batch(batch)

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """From the longest down: a batch too large for the memory then shows at once."""
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        widest, tokens = self._lengths(self._sorted[-1][0]), 0
        while self._sorted and len(batch) < self._rows:
            item, future = self._sorted[-1]
            lengths = self._lengths(item)
            widest = tuple(map(max, widest, lengths))
            padded = (len(batch) + 1) * sum(widest)
            padding = padded - tokens - sum(lengths)
            if batch and (padded > self._tokens or padding > max(_MUCH, _SHARE * padded)):
                break
            self._sorted.pop()
            if not future.done():
                batch.append((item, future))
                tokens += sum(lengths)
        return batch

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

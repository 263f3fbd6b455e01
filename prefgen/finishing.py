"""Calls that are let finish."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Finishing:
    """Calls that are paid for whether anyone still waits for them or not: they are let finish."""

    def __init__(self, grace: float = 30.0) -> None:
        self._grace = grace
        self._running: set[asyncio.Task[Any]] = set()

    def shield(self, call: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Starts `call`; when whoever awaits it is cancelled the call goes on."""
        task = asyncio.create_task(call)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return asyncio.shield(task)

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._running)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # Marks it as seen: the waiter may be gone.

    async def wait(self) -> None:
        """Until all are done, at most `grace` seconds; the rest is cancelled."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._grace)
            for task in late:
                task.cancel()

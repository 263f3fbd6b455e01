"""Who waits for which question."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Turns:
    """Askers wait here until there is a reason to look again, or until there will be none."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, key: bytes) -> asyncio.Future[None]:
        """To be awaited. Others may wait for the same: one that gives up does not take it from them."""
        turn = self._waiting.get(key)
        if turn is None:
            turn = self._waiting[key] = asyncio.get_running_loop().create_future()
        return asyncio.shield(turn)

    def wake(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            turn = self._waiting.pop(key, None)
            if turn is not None and not turn.done():
                turn.set_result(None)

    def fail(self, error: Exception, keys: Iterable[bytes] | None = None) -> None:
        """`error` is raised to those who wait for `keys`; to all where none are given."""
        for key in [*self._waiting] if keys is None else keys:
            turn = self._waiting.pop(key, None)
            if turn is not None and not turn.done():
                turn.set_exception(error)
                turn.exception()  # Marks it as seen: the waiter may be gone.

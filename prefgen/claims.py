"""Who is asking what, over all processes that share a ledger, so that none pays for what another is asking.

A question is a byte of a file beside the ledger, and asking it holds that byte's lock, which the kernel gives
free when the process dies. Nothing is written.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

_PATIENCE = 900.0
"""Seconds to wait for another process before the question is asked all the same: it may have been stopped."""
_SOON, _LATER = 0.02, 0.5
"""Seconds between looks at what another process holds, at first and at last."""


class Claims:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    async def take(self, key: bytes) -> bool:
        """Returns once no other process asks this question: whether that had to be waited for, and so whether
        the answer may be there now. `free` must follow. Tasks of one process do not keep each other out."""
        return await self._wait(int.from_bytes(key[:7]))

    def free(self, key: bytes) -> None:
        self._lock(int.from_bytes(key[:7]), fcntl.LOCK_UN)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def _wait(self, place: int) -> bool:
        began, pause = time.monotonic(), _SOON
        while not self._lock(place, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if time.monotonic() - began > _PATIENCE:
                return True
            await asyncio.sleep(pause)
            pause = min(_LATER, 1.5 * pause)
        return pause > _SOON

    def _lock(self, place: int, how: int) -> bool:
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.lockf(self._file, how, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return True  # A disk without locks: two processes may pay twice, and nothing worse.
        return True

"""Which beginnings of a call are worth a provider's prompt cache, and who writes them.

At Anthropic a token written to the cache costs 1.25 input tokens and one read from it 0.1 (at OpenAI writing
costs that much from GPT-5.6 on, and nothing before): a beginning that two calls have costs 1.35 of itself
instead of 2. What no call has written yet none can read, so of calls put at once the first goes ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from prefgen.completion import CompletionRequest, Shared

MOST_MARKS = 4
LEAST_CHARACTERS = 4 * 1024
"""No provider but for its newest models caches less than 1,024 tokens; others take 4,096, which is learnt."""
_LEAST_GAIN = 4 * 256
# A cache entry lives for five minutes after it was last read.
_LIFETIME = 240.0
_MOST_KEPT = 10_000
_MOST_WAIT = 60.0


class Prefixes:
    """The beginnings that one model's cache holds, as far as this process knows."""

    def __init__(self) -> None:
        self._least = LEAST_CHARACTERS
        self._used: dict[bytes, float] = {}
        self._writing: dict[bytes, asyncio.Event] = {}

    def worth(self, request: CompletionRequest, draws_each: int = 1) -> tuple[Shared, ...]:
        """Those that are long enough and that a further call has too, the shorter first; at most four.

        `draws_each`: how many draws one call makes.
        """
        found: list[Shared] = []
        before = 0
        for mark in request.shared:
            size = _size(request, mark)
            enough = size >= self._least and size - before >= _LEAST_GAIN
            if enough and mark.draws > draws_each:
                found.append(mark)
                before = size
        return tuple(found[-MOST_MARKS:])

    @asynccontextmanager
    async def turn(self, request: CompletionRequest, marks: Sequence[Shared]) -> AsyncIterator[None]:
        """Waits while another call writes what this one could read, at most a minute.

        A writer that fails is followed by the next in line.
        """
        keys = [prefix_key(request, mark) for mark in marks]
        mine: list[bytes] = []
        try:
            for key in keys:
                if await self._is_ours(key):
                    mine.append(key)
            yield
            self._keep(keys)
        finally:
            for key in mine:
                self._writing.pop(key).set()

    def learn(self, request: CompletionRequest, marks: Sequence[Shared], cached: int) -> None:
        """From a reply that neither read nor wrote a token: the model caches only what is longer."""
        if marks and not cached:
            self._least = max(self._least, _size(request, marks[-1]) + 1)

    async def _is_ours(self, key: bytes) -> bool:
        """Whether this call shall write it. Longer beginnings are waited for after shorter ones, so no two
        calls wait for each other."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOST_WAIT):
                while time.monotonic() - self._used.get(key, -_LIFETIME) >= _LIFETIME:
                    if key not in self._writing:
                        self._writing[key] = asyncio.Event()
                        return True
                    await self._writing[key].wait()
        return False

    def _keep(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._used.pop(key, None)
            self._used[key] = time.monotonic()
        while len(self._used) > _MOST_KEPT:
            del self._used[next(iter(self._used))]


def prefix_key(request: CompletionRequest, mark: Shared) -> bytes:
    """A hash of the beginning that ends at `mark`."""
    before = request.messages[: mark.message]
    told = [
        *((item.role, item.content) for item in before),
        request.messages[mark.message].content[: mark.end],
    ]
    return hashlib.sha256(repr(told).encode(errors="replace")).digest()


def _size(request: CompletionRequest, mark: Shared) -> int:
    """In characters."""
    return sum(len(message.content) for message in request.messages[: mark.message]) + mark.end

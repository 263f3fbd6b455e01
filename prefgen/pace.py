"""What a provider allows a minute: requests, tokens in, tokens out."""

from __future__ import annotations

import asyncio
import time
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class PerMinute:
    """None: no limit known. The provider's page of limits has the numbers of an account."""

    requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """Of one call, expected or counted. `characters`: of its messages."""

    input_tokens: float = 0.0
    output_tokens: float = 0.0
    characters: int = 0


class _Bucket:
    """A token bucket: `rate` a minute, of which a twelfth (five seconds' worth) may come at once."""

    def __init__(self, rate: float) -> None:
        self._per_second, self._most = rate / 60, max(1.0, rate / 12)
        self._left, self._filled = self._most, time.monotonic()

    def take(self, amount: float) -> float:
        """Takes `amount` and returns the seconds until it is there; negative amounts give back."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._filled) * self._per_second) - amount
        self._filled = now
        return max(0.0, -self._left / self._per_second)


class Pace:
    """Makes calls wait so that a minute holds no more than is allowed, first come first served.

    Tokens are counted as expected when a call starts and corrected when its answer tells.
    """

    def __init__(self, allowed: PerMinute) -> None:
        self._allowed = allowed
        self._buckets = [None if rate is None else _Bucket(rate) for rate in astuple(allowed)]
        self._limited = any(bucket is not None for bucket in self._buckets)

    def share(self, part: float) -> Pace:
        """Of `part` of what is allowed: others have the rest."""
        return Pace(PerMinute(*(None if rate is None else rate * part for rate in astuple(self._allowed))))

    async def enter(self, expected: Size) -> None:
        if self._limited:
            seconds = self._take(1, expected.input_tokens, expected.output_tokens)
            if seconds > 0:
                await asyncio.sleep(seconds)

    def correct(self, expected: Size, counted: Size) -> None:
        if self._limited:
            self._take(
                0,
                counted.input_tokens - expected.input_tokens,
                counted.output_tokens - expected.output_tokens,
            )

    def _take(self, *amounts: float) -> float:
        pairs = zip(self._buckets, amounts, strict=True)
        return max((bucket.take(amount) for bucket, amount in pairs if bucket is not None), default=0.0)

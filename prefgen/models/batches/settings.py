"""How batches are made and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

directly: ContextVar[bool] = ContextVar("directly", default=False)


@contextmanager
def at_once() -> Iterator[None]:
    """What is asked in here is not put into batches: the answer is wanted now, at the full price."""
    before = directly.set(True)
    try:
        yield
    finally:
        directly.reset(before)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """`size`: requests in one batch at most. `poll`: seconds between two looks at a batch, in the end.
    `attempts`: batches one question may come back from without an answer. `patience`: seconds for which a
    provider may be out of reach."""

    size: int = 2000
    poll: float = 120.0
    attempts: int = 5
    patience: float = 3600.0

    @property
    def quiet(self) -> float:
        """Seconds without a further question after which a batch that is not full is sent."""
        return min(5.0, self.poll)

    @property
    def grace(self) -> float:
        """Seconds after which a batch that was sent is surely listed."""
        return min(60.0, 5 * self.poll)

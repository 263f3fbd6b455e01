"""What depends on the seed and the step alone, so that a run can go on at any step as if never stopped."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def derive(seed: int, step: int, purpose: str) -> int:
    """A seed of 31 bits for one purpose at one step."""
    digest = hashlib.sha256(f"{seed} {step} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def draw(items: Sequence[T], size: int, step: int, seed: int) -> list[T]:
    """The items of a step: the next `size` of an endless sequence of passes, each in an order of its own."""
    orders: dict[int, list[int]] = {}
    drawn = []
    for place in range(step * size, (step + 1) * size):
        epoch, offset = divmod(place, len(items))
        if epoch not in orders:
            orders[epoch] = list(range(len(items)))
            random.Random(derive(seed, epoch, "prompts")).shuffle(orders[epoch])
        drawn.append(items[orders[epoch][offset]])
    return drawn


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: a linear warm-up (a share of `steps` below 1, else a number of
    steps), then half a cosine down towards 0."""
    rising = math.ceil(warmup * steps) if warmup < 1 else int(warmup)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]

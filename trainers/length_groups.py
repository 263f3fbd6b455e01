"""Batches of rows of about one length, which need little padding; in an order the seed fixes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

POOL = 50
"""Batches whose rows are sorted together: more saves more padding, fewer mixes better."""


def grouped_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[int]:
    """Every index once, so that runs of `batch_size` have about one length and come in random order.

    Shuffled rows are sorted in pools of `POOL` batches, and the batches are shuffled. A last batch that is
    smaller stays last, since it would shift all others.
    """
    rng = random.Random(f"{seed} {epoch}")
    order = rng.sample(range(len(lengths)), len(lengths))
    size = POOL * batch_size
    pools = [order[at : at + size] for at in range(0, len(order), size)]
    ordered = [index for pool in pools for index in sorted(pool, key=lambda index: lengths[index])]
    batches = [ordered[at : at + batch_size] for at in range(0, len(ordered), batch_size)]
    last = [batches.pop()] if len(lengths) % batch_size else []
    rng.shuffle(batches)
    return [index for batch in [*batches, *last] for index in batch]


class LengthGroups:
    """A sampler for a DataLoader. Seed and epoch alone fix its order, so a resumed run has the same."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(grouped_order(self._lengths, self._batch_size, self._seed, self._epoch))

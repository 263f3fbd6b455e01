from __future__ import annotations

import random
from itertools import pairwise

from trainers.length_groups import LengthGroups, grouped_order

LENGTHS = random.Random(0).choices(range(1, 200), k=1003)


def padding(order: list[int], batch_size: int) -> float:
    """Share of a padded batch that is filling."""
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    padded = sum(len(batch) * max(LENGTHS[index] for index in batch) for batch in batches)
    return 1 - sum(LENGTHS) / padded


def test_every_row_comes_once_and_batches_are_of_one_length() -> None:
    order = grouped_order(LENGTHS, 8, seed=1, epoch=0)
    assert sorted(order) == list(range(1003))
    assert padding(list(range(1003)), 8) > 0.4
    assert padding(order, 8) < 0.05


def test_batches_come_in_no_order_of_length() -> None:
    order = grouped_order(LENGTHS, 8, seed=1, epoch=0)
    longest = [max(LENGTHS[index] for index in order[at : at + 8]) for at in range(0, 1000, 8)]
    rises = sum(later > earlier for earlier, later in pairwise(longest))
    assert 40 < rises < 84


def test_seed_and_epoch_alone_fix_the_order() -> None:
    groups = LengthGroups(LENGTHS, 8, seed=1)
    first = list(groups)
    assert list(groups) == first == grouped_order(LENGTHS, 8, 1, 0)
    groups.set_epoch(1)
    assert list(groups) != first
    assert list(LengthGroups(LENGTHS, 8, seed=2)) != first
    assert len(groups) == 1003

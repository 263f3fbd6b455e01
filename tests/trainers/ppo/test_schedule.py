from __future__ import annotations

from itertools import pairwise

import pytest

from trainers.ppo.schedule import chunks, derive, draw, rate_factor


def test_each_pass_takes_every_prompt_once_in_an_order_of_its_own() -> None:
    items = list(range(10))
    drawn = [item for step in range(5) for item in draw(items, 4, step, seed=1)]
    first, second = drawn[:10], drawn[10:]
    assert sorted(first) == sorted(second) == items
    assert items != first != second
    assert draw(items, 4, 2, seed=1) == drawn[8:12]
    assert draw(items, 4, 2, seed=2) != drawn[8:12]
    assert len(draw(items, 25, 0, seed=1)) == 25


def test_a_seed_is_for_one_purpose_at_one_step() -> None:
    seeds = {
        derive(seed, step, purpose) for seed in (1, 2) for step in (0, 1) for purpose in ("rollouts", "order")
    }
    assert len(seeds) == 8
    assert derive(1, 0, "rollouts") == derive(1, 0, "rollouts") < 2**31


def test_the_rate_rises_and_falls() -> None:
    assert [rate_factor(step, 10, 2) for step in (0, 1, 2)] == [0.5, 1, 1]
    assert rate_factor(6, 10, 2) == pytest.approx(0.5)
    assert rate_factor(0, 10, 0.1) == 1
    assert rate_factor(0, 1, 0) == 1
    falling = [rate_factor(step, 10, 0.2) for step in range(2, 10)]
    assert all(early > late > 0 for early, late in pairwise(falling))


def test_chunks() -> None:
    assert chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]

"""Effects of surface features, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from judges.effects import FEATURES, cohens_d, effects


def test_cohens_d_by_hand() -> None:
    """Means 4 and 2; variances (ddof 1) 4 and 1: d = 2 / sqrt(2.5)."""
    chosen, rejected = np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])
    assert cohens_d(chosen, rejected)(np.ones((1, 3)))[0] == pytest.approx(2 / 2.5**0.5)
    twice = cohens_d(chosen, rejected)(np.array([[2.0, 0.0, 2.0]]))[0]
    by_hand = cohens_d(np.array([2.0, 2, 6, 6]), np.array([1.0, 1, 3, 3]))(np.ones((1, 4)))[0]
    assert twice == pytest.approx(by_hand)


def test_effects_of_all_features() -> None:
    random = np.random.default_rng(0)
    chosen, rejected = np.zeros((400, 5)), np.zeros((400, 5))
    chosen[:, 0], rejected[:, 0] = random.normal(110, 10, 400), random.normal(100, 10, 400)
    chosen[:100, 1] = 1
    found = effects(chosen, rejected, range(400))
    assert tuple(found) == FEATURES == ("length", "lists", "headers", "bold", "code")
    length, lists, bold = found["length"], found["lists"], found["bold"]
    assert length.d is not None
    assert length.d.ci[0] < 1 < length.d.ci[1]
    assert lists.more is not None
    assert (lists.more.value, lists.chosen) == (1.0, 0.25)
    assert (bold.d, bold.more) == (None, None)


def test_pairs_of_one_prompt_are_drawn_together() -> None:
    """Ten prompts copied forty times say no more than ten prompts."""
    random = np.random.default_rng(1)
    chosen, rejected = np.zeros((10, 5)), np.zeros((10, 5))
    chosen[:, 0], rejected[:, 0] = random.normal(1, 1, 10), random.normal(0, 1, 10)
    once = effects(chosen, rejected, range(10))["length"].d
    many = effects(np.tile(chosen, (40, 1)), np.tile(rejected, (40, 1)), list(range(10)) * 40)["length"].d
    assert once is not None
    assert many is not None
    assert many.ci[1] - many.ci[0] == pytest.approx(once.ci[1] - once.ci[0], rel=0.15)

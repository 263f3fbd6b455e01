"""What a reward model is worth, against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.reward_quality import Rewarded, correlation, quality


def rewarded(chosen: list[float], rejected: list[float]) -> Rewarded:
    n = len(chosen)
    sides = np.array(chosen), np.array(rejected)
    lengths = np.arange(n, dtype=float) + 5, np.full(n, 5.0)
    return Rewarded(*sides, *lengths, [str(number) for number in range(n)])


def test_a_reward_model_in_numbers() -> None:
    found = quality(rewarded([2.0, 1.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1.0]))
    # Margins 1, 0, -1, 2: two right, one undecided, one wrong.
    assert found["n"] == 4
    assert found["accuracy"]["value"] == pytest.approx(2.5 / 4)
    assert found["margin_mean"] == pytest.approx(0.5)
    losses = [math.log1p(math.exp(-margin)) for margin in (1, 0, -1, 2)]
    assert found["log_loss"] == pytest.approx(sum(losses) / 4)
    # Confidence in the favoured side and whether it was right, in four bins of one pair each.
    sure = {1: 1 / (1 + math.exp(-1)), 2: 1 / (1 + math.exp(-2))}
    error = ((1 - sure[1]) + abs(0.5 - 0.5) + (sure[1] - 0) + (1 - sure[2])) / 4
    assert found["ece"] == pytest.approx(error)
    # The chosen sides have 5, 6, 7 and 8 characters, the rejected ones 5: one tie, three longer.
    assert found["chosen_longer"] == pytest.approx(3.5 / 4)
    assert found["length_correlation"] == pytest.approx(
        np.corrcoef([2, 1, 0, 3, 1, 1, 1, 1], [5, 6, 7, 8, 5, 5, 5, 5])[0, 1]
    )


def test_the_temperature_says_how_much_too_sure_a_model_is() -> None:
    # 30 of 40 right with |margin| 4: as sure as right is a margin of ln 3, so T = 4 / ln 3.
    margins = [4.0] * 30 + [-4.0] * 10
    found = quality(rewarded(margins, [0.0] * 40))
    assert found["temperature"] == pytest.approx(4 / math.log(3), rel=1e-3)
    # Always right: the targets of Platt end where (n + 1) / (n + 2) = 41 / 42 is, at a margin of ln 41.
    assert quality(rewarded([4.0] * 40, [0.0] * 40))["temperature"] == pytest.approx(
        4 / math.log(41), rel=1e-3
    )


def test_without_pairs_or_spread_nothing_is_known() -> None:
    assert quality(rewarded([], [])) == {
        "n": 0,
        "accuracy": None,
        "log_loss": None,
        "ece": None,
        "ece_noise_floor": None,
        "temperature": None,
        "margin_mean": None,
        "length_correlation": None,
        "chosen_longer": None,
    }
    assert correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None

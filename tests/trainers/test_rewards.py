from __future__ import annotations

from collections.abc import Sequence

import pytest

from prefgen.messages import user
from trainers.rewards import Reward, Sample, length_correlation, total


def test_rewards_are_added_by_weight_and_a_missing_one_is_no_zero() -> None:
    samples = [Sample(user("hi"), text) for text in ("a", "bb", "ccc")]

    def length(given: Sequence[Sample]) -> list[float | None]:
        return [float(len(sample.completion)) for sample in given]

    def some(given: Sequence[Sample]) -> list[float | None]:
        return [None if sample.completion == "bb" else 10.0 for sample in given]

    assert total([Reward("length", length, 2.0), Reward("some", some, 0.5)], samples) == [7.0, None, 11.0]


def test_correlation_of_reward_and_length() -> None:
    # Deviations (-1, 0, 1) and (-2, 1, 1): 3 / sqrt(2 * 6).
    assert length_correlation([1.0, 2.0, 3.0], [1, 4, 4]) == pytest.approx(3 / 12**0.5)
    # Within each prompt the longer answer is the worse one, though the prompt with long answers scores more.
    scores, lengths, groups = [2.0, 1.0, 12.0, 11.0], [10, 11, 90, 91], ["x", "x", "y", "y"]
    assert length_correlation(scores, lengths, groups) == pytest.approx(-1)
    assert (length_correlation(scores, lengths) or 0) > 0.99
    assert length_correlation([1.0, None, 3.0], [1, 50, 2]) == pytest.approx(1)
    assert length_correlation([1.0, 1.0], [1, 2]) is None

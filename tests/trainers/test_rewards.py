from __future__ import annotations

from collections.abc import Sequence

from prefgen.messages import user
from trainers.rewards import Reward, Sample, total


def test_rewards_are_added_by_weight_and_a_missing_one_is_no_zero() -> None:
    samples = [Sample(user("hi"), text) for text in ("a", "bb", "ccc")]

    def length(given: Sequence[Sample]) -> list[float | None]:
        return [float(len(sample.completion)) for sample in given]

    def some(given: Sequence[Sample]) -> list[float | None]:
        return [None if sample.completion == "bb" else 10.0 for sample in given]

    assert total([Reward("length", length, 2.0), Reward("some", some, 0.5)], samples) == [7.0, None, 11.0]

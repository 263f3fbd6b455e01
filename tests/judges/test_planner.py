"""How many labels, and which next."""

from __future__ import annotations

import numpy as np
import pytest

from judges.intervals import clopper_pearson_upper
from judges.planner import labels_for_target, labels_for_width, labels_to_earn, next_to_label


@pytest.mark.parametrize(
    ("half_width", "n"), [(0.11, 50), (0.078, 100), (0.055, 200), (0.039, 400), (0.025, 1000)]
)
def test_widths_at_eighty_percent_as_published(half_width: float, n: int) -> None:
    assert labels_for_width(0.8, 2 * half_width) == pytest.approx(n, rel=0.03)


def test_a_perfect_record_still_needs_labels() -> None:
    assert labels_for_width(1.0, 0.1) == labels_for_width(0.95, 0.1) > 50


def test_labels_for_a_target_are_just_enough() -> None:
    n = labels_for_target(0.95, 0.9, 0.1)
    assert n is not None
    assert clopper_pearson_upper(int(np.ceil(n * 0.05)), n, 0.1) <= 0.1
    assert labels_for_target(0.95, 0.9, 0.1, coverage=0.5) == 2 * n
    assert labels_for_target(0.9, 0.9, 0.1) is None


def test_labels_to_earn_a_target_on_the_most_confident_share() -> None:
    confidence = np.linspace(0.5, 1, 100)
    upper_half = confidence > 0.75
    # Right on the upper half, by chance below: only that half ever earns it.
    right = upper_half | (np.arange(100) % 2 == 0)
    assert labels_to_earn(confidence, right, 0.9, 0.1) == labels_for_target(1.0, 0.9, 0.1, coverage=0.5)
    assert labels_to_earn(confidence, ~upper_half, 0.9, 0.1) is None
    assert labels_to_earn([], [], 0.9, 0.1) is None


def test_every_stretch_of_confidence_is_drawn_from() -> None:
    confidence = np.linspace(0.5, 1, 1000).tolist()
    drawn = next_to_label(confidence, [str(n) for n in range(1000)], 50)
    assert len(set(drawn)) == 50
    assert np.histogram([confidence[index] for index in drawn], 10, (0.5, 1))[0].tolist() == [5] * 10
    first = [confidence[index] for index in drawn[:25]]
    assert 0.65 < float(np.mean(first)) < 0.85, "a beginning of the list is a fair sample too"


def test_estimates_are_unbiased_and_better_than_at_random() -> None:
    confidence = np.random.default_rng(0).uniform(0.5, 1, 500)
    names = [str(n) for n in range(500)]
    systematic = [
        confidence[next_to_label(confidence.tolist(), names, 25, seed)].mean() for seed in range(200)
    ]
    random = [np.random.default_rng(seed).choice(confidence, 25, False).mean() for seed in range(200)]
    assert np.mean(systematic) == pytest.approx(confidence.mean(), abs=0.002)
    assert np.std(systematic) < 0.3 * np.std(random)


def test_one_pair_of_a_prompt_where_there_are_enough_prompts() -> None:
    prompts = [f"p{n // 4}" for n in range(80)]
    drawn = next_to_label([0.6] * 80, prompts, 20)
    assert len({prompts[index] for index in drawn}) == 20
    assert len(next_to_label([0.6] * 80, prompts, 60)) == 60
    assert len(next_to_label([0.6] * 3, ["p"] * 3, 9)) == 3
    assert next_to_label([], [], 5) == []

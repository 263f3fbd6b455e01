"""What the rounds come to: hand-worked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from judges.intervals import Estimate
from pipelines.rlaif.decide import (
    Round,
    Rules,
    best_round,
    decide,
    gaming,
    length,
    no_gain,
    paired,
)

OFF = Rules(None, None, None)


def a_round(
    number: int,
    held_out: Sequence[float] = (0.5,) * 4,
    training: Sequence[float] = (0.5,) * 4,
    ci: tuple[float, float] = (40, 60),
    last: tuple[float, float] = (51, 60),
    ratio: float = 1.0,
) -> Round:
    return Round(
        number,
        np.array(held_out, np.float64),
        np.array(training, np.float64),
        Estimate(sum(ci) / 2, ci),
        Estimate(sum(last) / 2, last),
        ratio,
    )


def test_paired_difference_by_hand() -> None:
    # Differences .1, .3, -.1 and one without a judgment: mean .1, so 10 points.
    found = paired(np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.6, 0.8, 0.4, np.nan]))
    assert found is not None
    assert found.value == pytest.approx(10)
    assert found.ci[0] < 0 < found.ci[1]
    assert paired(np.array([np.nan]), np.array([0.5])) is None


def test_gaming_takes_two_steps_apart() -> None:
    """Round 0 is .5 for both. Training .5 → .6 → .7; held out .5 → .4 → .2: -30 points on every prompt."""
    rounds = [a_round(1, [0.4] * 4, [0.6] * 4), a_round(2, [0.2] * 4, [0.7] * 4)]
    alarm = gaming(rounds, 2)
    assert alarm is not None
    assert alarm.round == 2
    assert "50% → 70%" in alarm.text
    assert "50% → 20%, -30.0 points [-30.0, -30.0]" in alarm.text
    assert "constitution" in alarm.remedy
    assert gaming(rounds[:1], 2) is None
    assert gaming(rounds[:1], 1) is not None
    assert gaming(rounds, None) is None


@pytest.mark.parametrize(
    ("held_out", "training"),
    [
        (([0.4] * 4, [0.45] * 4), ([0.6] * 4, [0.7] * 4)),  # The held-out judge came back a little.
        (([0.4] * 4, [0.2] * 4), ([0.6] * 4, [0.6] * 4)),  # The training judge did not like it better.
        (([0.45] * 4, [0.9, 0.0, 0.8, 0.0]), ([0.6] * 4, [0.7] * 4)),  # Falls by 7.5 points, within chance.
    ],
)
def test_no_gaming(held_out: Sequence[Sequence[float]], training: Sequence[Sequence[float]]) -> None:
    rounds = [a_round(n + 1, held_out[n], training[n]) for n in range(2)]
    assert gaming(rounds, 2) is None


def test_length_is_over_round_0() -> None:
    assert length([a_round(1, ratio=1.25)], 1.25) is None
    alarm = length([a_round(1, ratio=1.3)], 1.25)
    assert alarm is not None
    assert "30% longer" in alarm.text
    assert "25%" in alarm.text
    assert length([a_round(1, ratio=9.0)], None) is None
    # Only the last round counts: it came back.
    assert length([a_round(1, ratio=1.3), a_round(2, ratio=1.1)], 1.25) is None


def test_no_gain_in_two_rounds() -> None:
    gained, same = (51.0, 60.0), (50.0, 60.0)
    assert no_gain([a_round(1, last=same)], 2) is None
    assert no_gain([a_round(1, last=gained), a_round(2, last=same)], 2) is None
    assert no_gain([a_round(1, last=same), a_round(2, last=gained)], 2) is None
    alarm = no_gain([a_round(1, last=gained), a_round(2, last=same), a_round(3, last=(30, 49))], 2)
    assert alarm is not None
    assert "round 2: 55% [50, 60], round 3: 40% [30, 49]" in alarm.text


def test_the_best_round_beats_the_start_and_the_earlier_of_equals_is_kept() -> None:
    assert best_round([a_round(1, ci=(45, 70))], "lower") == 0
    assert best_round([a_round(1, ci=(45, 70))], "mean") == 1
    assert best_round([a_round(1, ci=(55, 60)), a_round(2, ci=(52, 90))], "lower") == 1
    assert best_round([a_round(1, ci=(55, 60)), a_round(2, ci=(52, 90))], "mean") == 2
    assert best_round([a_round(1, ci=(55, 60)), a_round(2, ci=(55, 60))], "lower") == 1


def test_a_round_that_won_by_length_is_not_the_best() -> None:
    rounds = [a_round(1, ci=(55, 60)), a_round(2, ci=(70, 80), ratio=1.5)]
    found = decide(rounds, Rules(None, 1.25, None), "lower")
    assert (found.best, [alarm.kind for alarm in found.alarms]) == (1, ["length"])
    assert decide(rounds, OFF, "lower").best == 2

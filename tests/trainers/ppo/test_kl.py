from __future__ import annotations

import pytest

from trainers.ppo.kl import KLController, adapt, too_far


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.1),  # on target
        (6.6, 0.1 * (1 + 0.1 * 64 / 1000)),  # e = .1
        (60.0, 0.1 * (1 + 0.2 * 64 / 1000)),  # e = 9, cut to .2
        (5.4, 0.1 * (1 - 0.1 * 64 / 1000)),
        (-3.0, 0.1 * (1 - 0.2 * 64 / 1000)),  # an estimate may be negative
    ],
)
def test_the_coefficient_follows_zieglers_formula(kl: float, expected: float) -> None:
    assert adapt(0.1, kl, 6.0, 64, 1000) == pytest.approx(expected)


def test_without_a_target_the_coefficient_is_fixed() -> None:
    fixed, adaptive = KLController(0.1, None, 1000), KLController(0.1, 6.0, 1000)
    for controller in (fixed, adaptive):
        controller.update(60.0, 64)
        controller.update(60.0, 64)
    assert fixed.coefficient == 0.1
    assert adaptive.coefficient == pytest.approx(0.1 * 1.0128**2)


def test_the_passes_end_above_the_target() -> None:
    assert [too_far(kl, 0.02) for kl in (0.01, 0.02, 0.03)] == [False, False, True]
    assert not too_far(9.0, None)

"""Style control against judges of known taste."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judges.intervals import bootstrap
from judges.style import FEATURES, style_control, style_features, style_weights

ONE = np.ones((1, 400))


def test_features_by_hand() -> None:
    # Lengths 3 and 1: (3 - 1) / 4; lists 1 and 0: 1; no headers, no bold. One pair: each over itself.
    found = style_features(["- x"], ["y"])
    assert dict(zip(FEATURES, found[0].tolist(), strict=True)) == {
        "length": 1,
        "headers": 0,
        "lists": 1,
        "bold": 0,
    }
    # .5 and -.5 and 0: root mean square √(.5 / 3).
    found = style_features(["abc", "a", "xx"], ["a", "abc", "yy"])
    assert found[:, 0] == pytest.approx(np.array([0.5, -0.5, 0]) / math.sqrt(0.5 / 3))


def test_exchanging_both_sides_turns_the_sign() -> None:
    ours, theirs = ["# A\n**b**", "plain text"], ["x", "- y\n- z"]
    assert style_features(ours, theirs) == pytest.approx(-style_features(theirs, ours))


def taste_for_bold(liking: float) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], list[str]]:
    """Preferences of a judge that likes bold print and nothing else; three of four answers have some."""
    random = np.random.default_rng(1)
    bold = random.random(400) < 0.75
    texts = ["**so it is**" if item else "so it is all" for item in bold]
    return np.where(bold, liking, 0.5) + random.normal(0, 0.02, 400), texts


def test_a_judge_that_only_likes_bold_is_controlled_to_a_half() -> None:
    preference, texts = taste_for_bold(0.8)
    features = style_features(texts, ["so it is all"] * 400)
    assert 100 * preference.mean() > 70
    assert style_control(preference, features)(ONE)[0] == pytest.approx(50, abs=0.5)
    weights = style_weights(preference, features)
    assert weights["bold"] > 1
    assert (weights["headers"], weights["lists"]) == (0, 0)


def test_equal_style_leaves_the_win_rate_as_it_is() -> None:
    preference, _ = taste_for_bold(0.8)
    features = style_features(["same"] * 400, ["same"] * 400)
    assert style_control(preference, features)(ONE)[0] == pytest.approx(100 * preference.mean(), abs=1e-4)


def test_it_takes_the_bootstrap() -> None:
    preference, texts = taste_for_bold(0.8)
    control = style_control(preference, style_features(texts, ["so it is all"] * 400))
    found = bootstrap(control, range(400), resamples=200)
    assert found is not None
    assert found.ci[0] < 50 < found.ci[1]
    assert found.ci[1] - found.ci[0] < 3

"""Style control: what the win rate would be if both sides wrote alike.

After the style control of Chatbot Arena (Li, Angelopoulos, Chiang 2024): the preference is regressed on
how much more length and markdown one side has, and read off where both have the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from judges.intervals import Array, Statistic
from judges.win_rate import controlled_rate, logistic_fit
from prefgen.surface import surface

FEATURES = ("length", "headers", "lists", "bold")


def style_features(ours: Sequence[str], theirs: Sequence[str]) -> Array:
    """(f_ours - f_theirs) / (f_ours + f_theirs) for each of `FEATURES`, 0 where neither has any, over its
    root mean square, so that all are of one size. Not centred: 0 stays equal style. Shape (n, 4)."""
    a, b = _counts(ours), _counts(theirs)
    share = (a - b) / np.maximum(a + b, 1)
    size = np.sqrt((share**2).mean(axis=0))
    scaled: Array = share / np.where(size > 0, size, 1)
    return scaled


def style_control(preference: Array, features: Array) -> Statistic:
    """The win rate at equal style, in percent, as a statistic for `bootstrap`."""
    return controlled_rate(preference, features)


def style_weights(preference: Array, features: Array) -> dict[str, float]:
    """Log-odds that one typical difference in each feature brings its side."""
    design = np.column_stack([np.ones(len(preference)), features])
    return dict(zip(FEATURES, logistic_fit(design, preference)[1:].tolist(), strict=True))


def _counts(texts: Sequence[str]) -> Array:
    seen = (surface(text).as_dict() for text in texts)
    return np.array([[counts[name] for name in FEATURES] for counts in seen], np.float64)

"""Looking at a win rate as often as one likes: intervals that hold at every look at once.

The hedged betting confidence sequence of Waudby-Smith and Ramdas (2020, arXiv 2010.09686, theorem 3): for
each possible mean m somebody bets that the values lie above it and somebody that they lie below; fair bets
rarely make anyone rich, so every m whose bettor is 1/α times richer is given up.
"""

from __future__ import annotations

import numpy as np

from judges.intervals import Array

_STEPS = 1000
_LARGEST_BET = 0.5


def confidence_sequence(values: Array, level: float = 0.95) -> Array:
    """Lower and upper bound of the mean after each value, shape (n, 2).

    `values`: in 0..1, in the order they came in, each with the same mean whatever came before. All n
    intervals hold the mean together with probability `level` or more. Bounds are multiples of 0.001,
    rounded outwards.
    """
    means = np.linspace(0, 1, _STEPS + 1)
    alive = log_capital(values, means, level) < -np.log(1 - level)
    low = (alive.argmax(axis=1) - 1) / _STEPS
    high = (_STEPS - alive[:, ::-1].argmax(axis=1) + 1) / _STEPS
    low, high = np.maximum.accumulate(low.clip(0, 1)), np.minimum.accumulate(high.clip(0, 1))
    return np.column_stack([low, np.maximum(low, high)])


def log_capital(values: Array, means: Array, level: float = 0.95) -> Array:
    """Natural log of what the richer of both bettors has, from 1, after each value; shape (n, len(means))."""
    bets = _bets(values, level)[:, None]
    distance = values[:, None] - means
    with np.errstate(divide="ignore"):
        above, below = np.minimum(bets, _LARGEST_BET / means), np.minimum(bets, _LARGEST_BET / (1 - means))
    richer = np.maximum(np.log1p(above * distance).cumsum(axis=0), np.log1p(-below * distance).cumsum(axis=0))
    capital: Array = richer + np.log(0.5)
    return capital


def first_clear(bounds: Array, mean: float = 0.5) -> int | None:
    """How many values were in when `mean` first lay outside; None: it never did."""
    outside = (bounds[:, 0] > mean) | (bounds[:, 1] < mean)
    return int(outside.argmax()) + 1 if outside.any() else None


def _bets(values: Array, level: float) -> Array:
    """The share to bet on each value, from those before it alone (equation 26 of the paper)."""
    count = np.arange(1, len(values) + 1)
    mean = (0.5 + values.cumsum()) / (count + 1)
    variance = (0.25 + ((values - mean) ** 2).cumsum()) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bets: Array = np.sqrt(2 * np.log(2 / (1 - level)) / (before * count * np.log1p(count)))
    return bets

"""How many labels are enough, and which pairs to label next."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from judges.intervals import clopper_pearson_upper
from judges.selective import FEWEST

_MOST = 100_000
_SHARES = (0.25, 0.5, 0.75, 1.0)


def labels_for_width(rate: float, width: float, level: float = 0.95) -> int:
    """Labels for an interval of `rate` that is `width` wide, n = 4 z² p (1 - p) / width². Both are shares.

    A rate nearer than 5 points to 0 or 1 counts as 5 points away: it may be luck.
    """
    p = min(0.95, max(0.05, rate))
    z = NormalDist().inv_cdf((1 + level) / 2)
    return ceil(4 * z**2 * p * (1 - p) / width**2)


def labels_for_target(precision: float, target: float, delta: float, coverage: float = 1.0) -> int | None:
    """Labels so that a judge right at the rate `precision` on the share `coverage` of all labels would earn
    `target` there; None where it never would. The bound is exact, the number of errors the expected one."""
    if precision <= target:
        return None
    n = FEWEST
    while n < _MOST and clopper_pearson_upper(ceil(n * (1 - precision)), n, delta) > 1 - target:
        n = ceil(n * 1.05)
    return ceil(n / coverage) if n < _MOST else None


def labels_to_earn(
    confidence: Sequence[float] | npt.NDArray[np.float64],
    correct: Sequence[bool] | npt.NDArray[np.bool_],
    target: float,
    delta: float,
) -> int | None:
    """The fewest labels under which some share of the most confident would earn `target`, if the judge
    goes on being right as often as on these, shape (n,); None where no share does."""
    ranked = np.asarray(correct, np.bool_)[np.argsort(-np.asarray(confidence, np.float64), kind="stable")]
    options = []
    for share in _SHARES:
        top = ranked[: max(1, round(share * len(ranked)))]
        options.append(labels_for_target(float(top.mean()), target, delta, share) if len(top) else None)
    return min((option for option in options if option is not None), default=None)


def next_to_label(
    confidence: Sequence[float], prompts: Sequence[str], count: int, seed: int = 0
) -> list[int]:
    """Indices of `count` pairs, in the order to label them.

    A systematic sample along the judge's confidence: every stretch of it is looked at in proportion, so that
    estimates from these labels are unbiased without weights and more precise than from as many drawn at
    random. Of two pairs of one prompt the second tells less: where there are enough prompts one pair of each
    is drawn first (estimates then count each prompt once). The order is random: labelling may stop anywhere.
    """
    draw = random.Random(seed)
    order = draw.sample(range(len(confidence)), len(confidence))
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(prompts[index], index)
    pool = list(first.values()) if len(first) >= count else order
    ranked = sorted(pool, key=lambda index: confidence[index])
    count = min(count, len(ranked))
    start = draw.random()
    taken = [ranked[int((place + start) * len(ranked) / count)] for place in range(count)]
    return draw.sample(taken, count)

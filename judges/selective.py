"""Which of a judge's labels may be kept so that they are right as often as was asked for.

Trust or Escalate (Jung, Brahman and Choi, ICLR 2025, arXiv 2407.18370): thresholds on the judge's
confidence are tested one after the other from the strictest down, each by the Clopper-Pearson bound of its
error rate, and the first that fails ends the test. Then with probability 1 - delta over the labels drawn, the
labels above the last threshold that passed are right at the target rate. When none passes there is no such
threshold, and nothing may be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from judges.intervals import clopper_pearson_upper

FEWEST = 30
"""No threshold is tested on fewer labels."""
FIRST_SHARE = 0.15
"""The test begins with this share of the labels: on fewer, one unlucky error would end it at once."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Of `n` labels those with confidence >= `threshold` are kept: `n_kept`, with `n_errors` wrong ones.
    `upper_bound`: of their error rate, exact at level 1 - `delta`; at most 1 - `target`. `coverage`:
    n_kept / n."""

    target: float
    delta: float
    threshold: float
    coverage: float
    n_kept: int
    n_errors: int
    upper_bound: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def select(
    confidence: Sequence[float] | npt.NDArray[np.float64],
    correct: Sequence[bool] | npt.NDArray[np.bool_],
    *,
    target: float,
    delta: float,
) -> Selection | None:
    """The lowest threshold that keeps precision >= `target` with probability 1 - `delta`; None: abstain.

    `confidence`: shape (n,), any scale, chosen without these labels (or a monotone function of such).
    `correct`: whether a human agrees with the label. Labels are independent draws from what is to be
    labelled. Raises ValueError for a target or delta outside (0, 1) or lengths that differ.
    """
    if not (0 < target < 1 and 0 < delta < 1):
        raise ValueError(f"target {target} and delta {delta} must lie between 0 and 1")
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    sure = np.asarray(confidence, np.float64)[order]
    wrong = np.cumsum(~np.asarray(correct, np.bool_)[order])
    n = len(sure)
    if len(wrong) != n:
        raise ValueError(f"{n} confidences, {len(wrong)} answers")
    # Labels of one confidence are kept together or not at all.
    ends = np.flatnonzero(np.append(sure[1:] != sure[:-1], True)) + 1 if n else np.array([], np.int64)
    first = max(FEWEST, int(np.ceil(FIRST_SHARE * n)))
    found = None
    for kept in ends[ends >= first].tolist():
        errors = int(wrong[kept - 1])
        bound = clopper_pearson_upper(errors, kept, delta)
        if bound > 1 - target:
            break
        found = Selection(target, delta, float(sure[kept - 1]), kept / n, kept, errors, bound)
    return found

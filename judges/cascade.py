"""A cheap judge first, a stronger one where it is unsure, people for the rest.

Cascaded selective evaluation (Jung, Brahman and Choi, ICLR 2025, arXiv 2407.18370): each of M judges has its
own threshold, tested at delta / M on the labels that no judge before it kept, which are the ones it will be
asked about. By the union bound all of them hold together with probability 1 - delta, and so does the target
for what is kept in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judges.intervals import Array
from judges.selective import Selection, select


@dataclass(frozen=True, slots=True)
class Reached:
    """One judge of a cascade: `n` labels came to it. `selection`: what it keeps of these; None: nothing."""

    n: int
    selection: Selection | None


def select_cascade(
    confidence: Array, correct: npt.NDArray[np.bool_], *, target: float, delta: float
) -> list[Reached]:
    """The threshold of each judge, in the order they are asked.

    `confidence`, `correct`: shape (n, judges), each judge's confidence in its label and whether a human
    agrees with it; as for `select`, whose errors it raises.
    """
    left = np.ones(len(confidence), np.bool_)
    reached = []
    for judge in range(confidence.shape[1]):
        sure, right = confidence[left, judge], correct[left, judge]
        found = select(sure, right, target=target, delta=delta / confidence.shape[1])
        reached.append(Reached(len(sure), found))
        if found is not None:
            left &= confidence[:, judge] < found.threshold
    return reached


def kept(reached: Sequence[Reached]) -> tuple[int, int]:
    """(labels kept, errors among them) by all judges together."""
    found = [stage.selection for stage in reached if stage.selection is not None]
    return sum(item.n_kept for item in found), sum(item.n_errors for item in found)

"""How far a judge and people say the same: agreement, kappa, alpha, the alternative-annotator test.

Labels are codes 0, 1, 2 for a, b, tie. What takes `weights` of shape (resamples, n) gives one value a
resample, for `judges.intervals.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from judges.intervals import Array
from prefgen.judgment import Verdict

VERDICTS = cast("tuple[Verdict, ...]", get_args(Verdict))
_K = len(VERDICTS)
Codes = npt.NDArray[np.int64]
Votes = Sequence[tuple[str | None, Verdict]]
"""One item's labels: (annotator, label)."""


def codes(verdicts: Sequence[Verdict]) -> Codes:
    """Shape (n,)."""
    return np.array([VERDICTS.index(verdict) for verdict in verdicts], np.int64)


def confusion(human: Codes, judge: Codes, weights: Array) -> Array:
    """Weighted counts, shape (resamples, 3, 3): human by row, judge by column."""
    cell = np.eye(_K * _K)[human * _K + judge]
    tables: Array = (weights @ cell).reshape(-1, _K, _K)
    return tables


def agreement(tables: Array) -> Array:
    """Share on the diagonal."""
    return _ratio(np.trace(tables, axis1=1, axis2=2), tables.sum(axis=(1, 2)))


def kappa(tables: Array) -> Array:
    """Cohen's kappa (1960), (po - pe) / (1 - pe); NaN where chance alone agrees always."""
    total = tables.sum(axis=(1, 2))
    expected = _ratio((tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1), total**2)
    return _ratio(agreement(tables) - expected, 1 - expected)


def precision_recall_f1(tables: Array) -> Array:
    """Macro means over the classes that occur, shape (resamples, 3). A class never given has precision 0."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    given, true = tables.sum(axis=1), tables.sum(axis=2)
    occurs = (given + true) > 0
    precision, recall = _share(hits, given), _share(hits, true)
    f1 = _share(2 * hits, given + true)
    means = [_ratio((part * occurs).sum(axis=1), occurs.sum(axis=1)) for part in (precision, recall, f1)]
    return np.stack(means, axis=1)


def krippendorff_alpha(items: Sequence[Sequence[Verdict]]) -> float | None:
    """Nominal alpha, 1 - Do / De, by the coincidence matrix (Krippendorff 2011).

    `items`: the labels each item got; items with fewer than two do not count. None where nothing varies.
    """
    counts = np.array([_counts(labels) for labels in items if len(labels) > 1]).reshape(-1, _K)
    raters = counts.sum(axis=1, keepdims=True)
    coincidences = (counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(_K)) / (
        raters[:, :, None] - 1
    )
    matrix = coincidences.sum(axis=0)
    margin = matrix.sum(axis=1)
    total = margin.sum()
    expected = total**2 - (margin**2).sum()
    if expected == 0:
        return None
    return float(1 - (total - 1) * (total - np.trace(matrix)) / expected)


def human_agreement(labels: Sequence[Verdict]) -> float | None:
    """Probability that two annotators of one item, drawn at random, say the same; None for fewer than two."""
    if len(labels) < 2:
        return None
    counts = _counts(labels)
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def pairwise_kappas(items: Sequence[Votes]) -> dict[str, float]:
    """Cohen's kappa of every two annotators over the items both labelled, two at least, where defined."""
    by_item = [{name: label for name, label in votes if name is not None} for votes in items]
    names = sorted({name for votes in by_item for name in votes})
    found: dict[str, float] = {}
    for one, other in combinations(names, 2):
        shared = [(votes[one], votes[other]) for votes in by_item if one in votes and other in votes]
        if len(shared) > 1:
            ours, theirs = (codes(side) for side in zip(*shared, strict=True))
            value = float(kappa(confusion(ours, theirs, np.ones((1, len(shared)))))[0])
            if np.isfinite(value):
                found[f"{one}|{other}"] = value
    return found


@dataclass(frozen=True, slots=True)
class AlternativeAnnotator:
    """`winning_rate`: share of annotators whom the judge may replace; the judge passes from a half on.
    `advantages`: by annotator, how often the judge was at least as close to the others, minus how often the
    annotator was. `p_values`: of the test against each. `average_advantage`: mean of how often it was."""

    epsilon: float
    winning_rate: float
    average_advantage: float
    advantages: Mapping[str, float]
    p_values: Mapping[str, float]

    @property
    def passed(self) -> bool:
        return self.winning_rate >= 0.5


def alternative_annotator_test(
    items: Sequence[Votes], judge: Sequence[Verdict], *, epsilon: float = 0.1, fewest: int = 30
) -> AlternativeAnnotator | None:
    """Whether the judge may stand in for an annotator (Calderon et al., ACL 2025, arXiv 2501.10970).

    Each annotator and the judge are held against the other annotators of an item. One-sided paired t-tests
    of "the judge is worse by `epsilon` or more", corrected by Benjamini and Yekutieli at 5%. `epsilon`: .2
    for experts, .15 skilled, .1 crowd. None unless three named annotators have `fewest` items each that
    others labelled too.
    """
    from scipy.stats import false_discovery_control

    closer: dict[str, list[tuple[bool, bool]]] = {}
    for votes, verdict in zip(items, judge, strict=True):
        for place, (name, label) in enumerate(votes):
            others = [other for number, (_, other) in enumerate(votes) if number != place]
            if name is not None and others:
                theirs, ours = others.count(label), others.count(verdict)
                closer.setdefault(name, []).append((ours >= theirs, theirs >= ours))
    wins = {name: np.array(pairs, np.float64) for name, pairs in closer.items() if len(pairs) >= fewest}
    if len(wins) < 3:
        return None
    p_values = {name: _worse_by(pairs[:, 1] - pairs[:, 0], epsilon) for name, pairs in wins.items()}
    adjusted = false_discovery_control(list(p_values.values()), method="by")
    return AlternativeAnnotator(
        epsilon,
        float((adjusted <= 0.05).mean()),
        float(np.mean([pairs[:, 0].mean() for pairs in wins.values()])),
        {name: float((pairs[:, 0] - pairs[:, 1]).mean()) for name, pairs in wins.items()},
        p_values,
    )


def _worse_by(difference: Array, epsilon: float) -> float:
    """p-value of "the annotator's lead over the judge is `epsilon` or more"."""
    from scipy.stats import ttest_1samp

    if np.ptp(difference) == 0:
        return 0.0 if difference[0] < epsilon else 1.0
    return float(ttest_1samp(difference, epsilon, alternative="less").pvalue)


def _counts(labels: Sequence[Verdict]) -> Array:
    return np.bincount(codes(labels), minlength=_K).astype(np.float64)


def _ratio(over: Any, under: Any) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Array = np.where(under != 0, np.divide(over, under), np.nan)
    return ratio


def _share(over: Array, under: Array) -> Array:
    return np.nan_to_num(_ratio(over, under))

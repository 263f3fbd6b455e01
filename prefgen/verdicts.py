"""Verdict algebra: from all that was said about one prompt's candidates to one standing.

Pairwise judgments of a pair are averaged over orders as log-odds before anything is decided, which
cancels an additive preference for a slot: with z1 and z2 the log-odds that a wins when shown first and
second, m = (z1 + z2) / 2 is the content and b = (z1 - z2) / 2 the slot. Principles are then averaged by
weight. Scores are the least-squares fit s_i - s_j = m_ij (for a complete round robin: the mean margin).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from prefgen.judgment import JudgeFailure, JudgeResult, Judgment

Pair = tuple[str, str]
K = TypeVar("K", bound=Hashable)
_RIDGE = 1e-9


@dataclass(frozen=True, slots=True)
class Standing:
    """What the judges make of one prompt's candidates, all by candidate id.

    `scores`: log-odds scale, only differences mean anything; a candidate is absent when some judgment
    it needs failed. `margins`: log-odds that the first of the pair beats the second, for pairs that
    met; each pair stands once. `failed`: pairs whose judgment failed, ("", id) for a candidate scored on
    its own; `why`: ledger keys by pair or candidate.
    """

    scores: Mapping[str, float]
    margins: Mapping[Pair, float] = field(default_factory=dict)
    failed: frozenset[Pair] = frozenset()
    why: Mapping[Pair | str, tuple[str, ...]] = field(default_factory=dict)

    def margin(self, a: str, b: str) -> float | None:
        """Log-odds that a beats b: judged directly where they met, else by scores; None: not known."""
        if (a, b) in self.margins:
            return self.margins[a, b]
        if (b, a) in self.margins:
            return -self.margins[b, a]
        if (a, b) in self.failed or (b, a) in self.failed or a not in self.scores or b not in self.scores:
            return None
        return self.scores[a] - self.scores[b]

    def failed_between(self, a: str, b: str) -> bool:
        """Whether a judge failed on this pair or on either side, rather than not having been asked."""
        return not self.failed.isdisjoint({(a, b), (b, a), ("", a), ("", b)})

    def reasons(self, a: str, b: str) -> tuple[str, ...]:
        """Ledger keys of the judgments behind `margin(a, b)`."""
        for pair in ((a, b), (b, a)):
            if pair in self.why:
                return self.why[pair]
        return self.why.get(a, ()) + self.why.get(b, ())


def settle(
    ids: Sequence[str], results: Iterable[JudgeResult], weights: Mapping[str, float] | None = None
) -> Standing:
    """The standing of `ids` after `results`.

    `weights`: share of each principle by id; judgments without a principle, or of one not named, count
    with weight 1. A failure makes its pair (or its single candidate) undecided; it is never averaged.
    """
    results = list(results)
    if any(result.b_id is not None for result in results):
        return _settle_pairs(ids, results, weights or {})
    return _settle_singles(ids, results, weights or {})


def _settle_singles(ids: Sequence[str], results: list[JudgeResult], weights: Mapping[str, float]) -> Standing:
    failed = {_pair(result) for result in results if isinstance(result, JudgeFailure)}
    said = _group(results, lambda judgment: judgment.a_id)
    scores = {
        name: _weighted(said[name], weights) for name in ids if name in said and ("", name) not in failed
    }
    return Standing(scores, failed=frozenset(failed), why={name: _keys(said[name]) for name in scores})


def _settle_pairs(ids: Sequence[str], results: list[JudgeResult], weights: Mapping[str, float]) -> Standing:
    failed = {_pair(result) for result in results if isinstance(result, JudgeFailure)}
    said = _group((_canonical(result) for result in results), _pair)
    margins = {pair: _weighted(judgments, weights) for pair, judgments in said.items() if pair not in failed}
    return Standing(
        fit_scores(ids, margins),
        margins,
        frozenset(failed),
        {pair: _keys(said[pair]) for pair in margins},
    )


def fit_scores(ids: Sequence[str], margins: Mapping[Pair, float]) -> dict[str, float]:
    """Least-squares scores, mean zero over those that met anyone; the others are absent."""
    met = [name for name in ids if any(name in pair for pair in margins)]
    if not met:
        return {}
    place = {name: index for index, name in enumerate(met)}
    design = np.zeros((len(margins), len(met)))
    for row, (a, b) in enumerate(margins):
        design[row, place[a]], design[row, place[b]] = 1.0, -1.0
    target = np.array(list(margins.values()))
    normal = design.T @ design + _RIDGE * np.eye(len(met))
    fitted = np.linalg.solve(normal, design.T @ target)
    return dict(zip(met, (fitted - fitted.mean()).tolist(), strict=True))


def _weighted(judgments: list[Judgment], weights: Mapping[str, float]) -> float:
    """Mean over orders and votes within a principle, then the weighted mean over principles."""
    by_principle: dict[str, list[float]] = defaultdict(list)
    for judgment in judgments:
        by_principle[judgment.provenance.principle or ""].append(judgment.log_odds)
    shares = {name: weights.get(name, 1.0) for name in by_principle}
    total = sum(shares.values())
    return sum(shares[name] * sum(odds) / len(odds) for name, odds in by_principle.items()) / total


def _group(results: Iterable[JudgeResult], key: Callable[[Judgment], K]) -> dict[K, list[Judgment]]:
    grouped: dict[K, list[Judgment]] = defaultdict(list)
    for result in results:
        if isinstance(result, Judgment):
            grouped[key(result)].append(result)
    return grouped


def _canonical(result: JudgeResult) -> JudgeResult:
    """The same judgment with its ids in sorted order, so that (a, b) and (b, a) meet."""
    if isinstance(result, Judgment) and result.b_id is not None and result.a_id > result.b_id:
        return result.swap()
    return result


def _pair(result: JudgeResult) -> Pair:
    first, second = sorted((result.a_id, result.b_id or ""))
    return first, second


def _keys(judgments: list[Judgment]) -> tuple[str, ...]:
    return tuple(j.provenance.ledger_key for j in judgments if j.provenance.ledger_key)

"""Verdict algebra: from all that was said about one prompt's candidates to one standing.

Pairwise judgments of a pair are averaged over orders as log-odds before anything is decided, which
cancels an additive preference for a slot: with z1 and z2 the log-odds that a wins when shown first and
second, m = (z1 + z2) / 2 is the content and b = (z1 - z2) / 2 the slot. Principles are then averaged by
weight. Scores are the least-squares fit s_i - s_j = m_ij (for a complete round robin: the mean margin).

Where only some pairs met, and some of those in one order, the slot cannot be averaged away: it is estimated
together with the scores (`prefgen.bradley_terry`), and only a pair that met in both orders has a margin:
what an estimate says of two responses may rank them, but is no label. An outlying judgment then also counts
for no more than a sure one.

Several judges are settled each by itself and then pooled, pair by pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean, median
from typing import Literal, TypeVar

import numpy as np

from prefgen.bradley_terry import bradley_terry
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, sigmoid

Pair = tuple[str, str]
K = TypeVar("K", bound=Hashable)
_RIDGE = 1e-9


Combine = Literal["mean", "median", "trimmed", "stacked", "cascade"]


@dataclass(frozen=True, slots=True)
class Weighing:
    """How all that was said of a pair becomes one number.

    `principles`: share of each by id; judgments without a principle, or of one not named, count with weight
    1. `combine`: over judges; trimmed leaves out the highest and the lowest of three and more, stacked is the
    sum by `judges`, the weight of each by name. In a cascade judges are not pooled: only what the first of
    `judges` said is settled here.
    """

    principles: Mapping[str, float] = field(default_factory=dict)
    combine: Combine = "mean"
    judges: Mapping[str, float] = field(default_factory=dict)

    def pool(self, values: Mapping[str, float]) -> float:
        """One number of what each judge says, by name."""
        match self.combine:
            case "stacked":
                return sum(self.judges[name] * value for name, value in values.items())
            case "median":
                return median(values.values())
            case "trimmed":
                return fmean(sorted(values.values())[1:-1] if len(values) > 2 else values.values())
            case "mean" | "cascade":
                return fmean(values.values())


ALIKE = Weighing()


@dataclass(frozen=True, slots=True)
class Standing:
    """What the judges make of one prompt's candidates, all by candidate id.

    `scores`: log-odds scale, only differences mean anything; a candidate is absent when some judgment
    it needs failed. `margins`: log-odds that the first of the pair beats the second, for pairs that
    met; each pair stands once. `failed`: pairs whose judgment failed, ("", id) for a candidate scored on
    its own; `why`: ledger keys by pair or candidate. `slots`: b = (z_ab - z_ba) / 2 of pairs that met in both
    orders, log-odds towards the response shown first. `sparse`: the slot had to be estimated; only pairs
    that met in both orders have a margin.
    """

    scores: Mapping[str, float]
    margins: Mapping[Pair, float] = field(default_factory=dict)
    failed: frozenset[Pair] = frozenset()
    why: Mapping[Pair | str, tuple[str, ...]] = field(default_factory=dict)
    slots: Mapping[Pair, float] = field(default_factory=dict)
    sparse: bool = False

    def margin(self, a: str, b: str) -> float | None:
        """Log-odds that a beats b: judged directly where they met, else by scores; None: not known."""
        if (a, b) in self.margins:
            return self.margins[a, b]
        if (b, a) in self.margins:
            return -self.margins[b, a]
        if self.sparse or (a, b) in self.failed or (b, a) in self.failed:
            return None
        if a not in self.scores or b not in self.scores:
            return None
        return self.scores[a] - self.scores[b]

    def slot_bias(self, a: str, b: str) -> float | None:
        """The same whichever is named first; None where the two did not meet in both orders."""
        return self.slots.get((a, b), self.slots.get((b, a)))

    def failed_between(self, a: str, b: str) -> bool:
        """Whether a judge failed on this pair or on either side, rather than not having been asked."""
        return not self.failed.isdisjoint({(a, b), (b, a), ("", a), ("", b)})

    def reasons(self, a: str, b: str) -> tuple[str, ...]:
        """Ledger keys of the judgments behind `margin(a, b)`."""
        for pair in ((a, b), (b, a)):
            if pair in self.why:
                return self.why[pair]
        return self.why.get(a, ()) + self.why.get(b, ())


def settle(ids: Sequence[str], results: Iterable[JudgeResult], weighing: Weighing = ALIKE) -> Standing:
    """The standing of `ids` after `results`.

    A failure makes its pair (or its single candidate) undecided; it is never averaged.
    """
    by_judge = _by_judge(results)
    if weighing.combine == "cascade":
        return _settle(ids, by_judge.get(next(iter(weighing.judges)), []), weighing.principles)
    standings = {name: _settle(ids, told, weighing.principles) for name, told in by_judge.items()}
    if len(standings) < 2:
        return next(iter(standings.values()), Standing({}))
    return _pooled(ids, standings, weighing)


def settle_singles(
    ids: Sequence[str], results: Iterable[JudgeResult], weighing: Weighing = ALIKE
) -> dict[str, float]:
    """Scores, by candidate id, of candidates each judged by itself, as far as no judge failed on them.

    Unlike those of `settle` they mean the same for every prompt: several judges' scores are pooled as they
    are, not as distances from what a judge gave the prompt's other candidates.
    """
    told = _by_judge(results).items()
    standings = {name: _settle_singles(ids, said, weighing.principles) for name, said in told}
    return _pooled_scores(ids, standings, weighing, centred=False)


def _by_judge(results: Iterable[JudgeResult]) -> dict[str, list[JudgeResult]]:
    by_judge: dict[str, list[JudgeResult]] = defaultdict(list)
    for result in results:
        by_judge[result.provenance.judge].append(result)
    return by_judge


def _settle(ids: Sequence[str], results: list[JudgeResult], weights: Mapping[str, float]) -> Standing:
    if any(result.b_id is not None for result in results):
        return _settle_pairs(ids, results, weights)
    return _settle_singles(ids, results, weights)


def _pooled(ids: Sequence[str], standings: Mapping[str, Standing], weighing: Weighing) -> Standing:
    """What all judges told of counts; a pair or candidate on which one of them failed is undecided."""
    every = list(standings.values())
    shared = (
        [pair for pair in every[0].margins if all(pair in other.margins for other in every)] if every else []
    )
    margins = {
        pair: weighing.pool({name: told.margins[pair] for name, told in standings.items()}) for pair in shared
    }
    why: dict[Pair | str, tuple[str, ...]] = defaultdict(tuple)
    for told in every:
        for name, keys in told.why.items():
            why[name] += keys
    return Standing(
        fit_scores(ids, margins) if margins else _pooled_scores(ids, standings, weighing),
        margins,
        frozenset[Pair]().union(*(told.failed for told in every)),
        why,
        {pair: fmean(told.slots[pair] for told in every) for pair in shared if pair in every[0].slots},
        any(told.sparse for told in every),
    )


def _pooled_scores(
    ids: Sequence[str], standings: Mapping[str, Standing], weighing: Weighing, centred: bool = True
) -> dict[str, float]:
    """Centred, scores count as distances from a judge's mean: one that is kind to all favours nobody."""
    shared = [name for name in ids if standings and all(name in told.scores for told in standings.values())]
    means = {
        judge: fmean(told.scores[name] for name in shared) if centred else 0.0
        for judge, told in standings.items()
        if shared
    }
    return {
        name: weighing.pool({judge: told.scores[name] - means[judge] for judge, told in standings.items()})
        for name in shared
    }


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
    lopsided = {pair for pair in margins if len({item.provenance.order for item in said[pair]} - {None}) == 1}
    sparse = bool(lopsided) and not _round_robin(said.keys() | failed, lopsided | failed)
    if sparse:
        scores = _fit_matches(ids, results, weights)
        margins = {pair: margin for pair, margin in margins.items() if pair not in lopsided}
    else:
        scores = fit_scores(ids, margins)
    why: dict[Pair | str, tuple[str, ...]] = {pair: _keys(said[pair]) for pair in margins}
    return Standing(scores, margins, frozenset(failed), why, _slots(said, margins), sparse)


def _slots(said: Mapping[Pair, Sequence[Judgment]], pairs: Iterable[Pair]) -> dict[Pair, float]:
    found = {}
    for pair in pairs:
        shown = {
            order: [item.log_odds for item in said[pair] if item.provenance.order == order]
            for order in ("ab", "ba")
        }
        if shown["ab"] and shown["ba"]:
            found[pair] = (fmean(shown["ab"]) - fmean(shown["ba"])) / 2
    return found


def _round_robin(met: Set[Pair], lopsided: Set[Pair]) -> bool:
    """Whether everybody met everybody, each pair in one order as `--no-both-orders` asks for."""
    names = sorted({name for pair in met for name in pair})
    return met == lopsided == set(combinations(names, 2))


def _fit_matches(
    ids: Sequence[str], results: Iterable[JudgeResult], weights: Mapping[str, float]
) -> dict[str, float]:
    """Bradley-Terry scores with a slot term. A match (shown first, shown second) that failed is left out.

    Log-odds are taken in units of their mean size: to the logistic curve all wins of a very sure judge would
    look alike.
    """
    failed = {match for result in results if isinstance(result, JudgeFailure) for match in _matches(result)}
    said: dict[Pair, list[Judgment]] = defaultdict(list)
    for result in results:
        if isinstance(result, Judgment):
            for match in _matches(result) - failed:
                said[match].append(result if match[0] == result.a_id else result.swap())
    played = sorted(said)
    met = [name for name in ids if any(name in match for match in played)]
    first, second = (np.array([met.index(match[side]) for match in played]) for side in (0, 1))
    odds = [_weighted(said[match], weights) for match in played]
    unit = fmean(map(abs, odds)) or 1.0
    wins = np.array([sigmoid(value / unit) for value in odds])
    scores = unit * bradley_terry(first, second, wins, len(met)).scores
    return dict(zip(met, scores.tolist(), strict=True))


def _matches(result: JudgeResult) -> set[Pair]:
    """(shown first, shown second); a judgment that knows no order stands for both."""
    told = (result.a_id, result.b_id or "")
    return {"ab": {told}, "ba": {told[::-1]}, None: {told, told[::-1]}}[result.provenance.order]


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

"""Pairing: which of one prompt's candidates become a preference, and which rows KTO gets.

Pure functions of candidates and their standing. Every pair that is not emitted is counted under the
reason it was dropped for.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import combinations
from statistics import fmean, pstdev
from typing import Literal

from prefgen.candidate import Candidate
from prefgen.confidence import UNCALIBRATED, Confidence
from prefgen.judgment import logit
from prefgen.messages import content_hash
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.verdicts import Standing

Strategy = Literal["best-worst", "best-random", "best-2sigma", "all"]
KTOLabels = Literal["pairs", "threshold"]
_UNSURE = ("margin", "tie")
_TIE = 1e-9
"""Log-odds below this are rounding of an exact tie."""
_STEPS = 2_000_000


@dataclass(frozen=True, slots=True)
class PairingRule:
    """`min_confidence`: probability that chosen beats rejected, at least, as `confidence` tells it from a
    margin. `max_pairs`: per prompt. `max_similarity`: pairs more alike than this (0..1) are the same answer
    twice. `max_length_gap`: in characters, as a share of the longer one; None: no limit."""

    strategy: Strategy = "best-worst"
    min_confidence: float = 0.75
    max_pairs: int = 1
    max_similarity: float = 0.95
    max_length_gap: float | None = None
    allow_truncated: bool = False
    seed: int = 0
    confidence: Confidence = UNCALIBRATED


@dataclass(slots=True)
class Paired:
    """`dropped`: pairs not emitted, by reason. `unsure`: those of them that are only not clear enough, the
    clearest first, as the judge would label them. `asked`, `kept`: pairs that later judges of a cascade were
    asked about, and of these kept, by judge."""

    preferences: list[Preference] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    unsure: list[Preference] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class KTORow:
    """One desirable or undesirable completion."""

    prompt: Prompt
    candidate: Candidate
    label: bool
    score: float | None


def pair_up(prompt: Prompt, candidates: Sequence[Candidate], standing: Standing, rule: PairingRule) -> Paired:
    """The preferences of one prompt under `rule`, clearest first."""
    paired = Paired()
    kept: list[Preference] = []
    for better, worse in _proposals(candidates, standing, rule):
        margin = standing.margin(better.id, worse.id)
        failed = standing.failed_between(better.id, worse.id)
        reason = _objection(better, worse, margin, rule, failed)
        if reason is not None:
            paired.dropped[reason] += 1
        if margin is not None and (reason is None or reason in _UNSURE):
            sure = rule.confidence.probability(margin, better, worse)
            why = standing.reasons(better.id, worse.id)
            (kept if reason is None else paired.unsure).append(
                Preference(prompt, better, worse, margin, sure, why, standing.slot_bias(better.id, worse.id))
            )
    kept.sort(key=_clearest_first)
    paired.unsure.sort(key=_clearest_first)
    paired.preferences = kept[: rule.max_pairs]
    paired.dropped["over_max_pairs"] += len(kept) - len(paired.preferences)
    if not candidates or len(candidates) == 1:
        paired.dropped["fewer_than_two_candidates"] += 1
    paired.dropped = +paired.dropped
    return paired


def fate(
    candidates: Sequence[Candidate], standing: Standing, rule: PairingRule, a: str, b: str
) -> tuple[bool, str | None]:
    """Whether the strategy looks at the pair of these two ids at all, and why it may not be emitted; None if
    it may, within `max_pairs`."""
    by_id = {candidate.id: candidate for candidate in candidates}
    proposed = [pair for pair in _proposals(candidates, standing, rule) if {pair[0].id, pair[1].id} == {a, b}]
    if proposed:
        better, worse = proposed[0]
    else:
        better, worse = sorted((by_id[a], by_id[b]), key=lambda item: -standing.scores.get(item.id, 0.0))
    margin = standing.margin(better.id, worse.id)
    failed = standing.failed_between(better.id, worse.id)
    return bool(proposed), _objection(better, worse, margin, rule, failed)


def is_tie(margin: float) -> bool:
    return abs(margin) < _TIE


def _clearest_first(preference: Preference) -> tuple[float, float, str]:
    return -preference.confidence, -preference.margin, preference.id


def _proposals(
    candidates: Sequence[Candidate], standing: Standing, rule: PairingRule
) -> list[tuple[Candidate, Candidate]]:
    """The (better, worse) pairs a strategy looks at, before any check."""
    ranked = sorted(
        (candidate for candidate in candidates if candidate.id in standing.scores),
        key=lambda candidate: (-standing.scores[candidate.id], candidate.id),
    )
    failed = [
        (a, b)
        for a, b in combinations(candidates, 2)
        if a.id not in standing.scores or b.id not in standing.scores
    ]
    if rule.strategy == "all":
        return [*combinations(ranked, 2), *failed]
    eligible = [candidate for candidate in ranked if rule.allow_truncated or not candidate.truncated]
    if not eligible or len(ranked) < 2:
        return list(combinations(candidates, 2))[:1]
    best = eligible[0]
    rest = ranked[ranked.index(best) + 1 :]
    if not rest:
        return [(ranked[0], best)]  # Everything better was cut: the reason it is dropped for.
    return [(best, _rejected(rest, standing, rule))]


def _rejected(rest: Sequence[Candidate], standing: Standing, rule: PairingRule) -> Candidate:
    match rule.strategy:
        case "best-random":
            draw = random.Random(content_hash([rule.seed, *sorted(candidate.id for candidate in rest)]))
            return draw.choice(rest)
        case "best-2sigma":
            scores = list(standing.scores.values())
            target = fmean(scores) - 2 * pstdev(scores)
            return min(rest, key=lambda candidate: abs(standing.scores[candidate.id] - target))
        case _:
            return rest[-1]


def _objection(
    better: Candidate, worse: Candidate, margin: float | None, rule: PairingRule, failed: bool
) -> str | None:
    """Why this pair must not be emitted; None if it may. `better` is so by score: where the two met
    and the direct margin says otherwise, the pair is inconsistent."""
    if margin is None:
        unfinished = better.truncated or better.empty or worse.truncated or worse.empty
        return "judge_failure" if failed else "unfinished" if unfinished else "not_compared"
    if better.truncated and not rule.allow_truncated:
        return "chosen_truncated"
    if better.empty:
        return "chosen_empty"
    if is_tie(margin):
        return "tie"
    if margin < 0:
        return "inconsistent"
    told = rule.confidence.probability(margin, better, worse)
    # What a calibration believes of style may outweigh the judge: then nobody stands behind the label.
    if not told >= rule.min_confidence or told <= rule.confidence.probability(-margin, worse, better):
        return "margin"
    if similarity(better.text, worse.text) > rule.max_similarity:
        return "near_identical"
    longer = max(len(better.text), len(worse.text))
    gap = abs(len(better.text) - len(worse.text)) / longer if longer else 0.0
    if rule.max_length_gap is not None and gap > rule.max_length_gap:
        return "length_gap"
    return None


# A what-if looks at the same two texts under every setting.
@lru_cache(maxsize=1024)
def similarity(a: str, b: str) -> float:
    """Ratcliff-Obershelp ratio of the words of two texts, 1 for texts equal up to spacing and case."""
    left, right = a.lower().split(), b.lower().split()
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    times = Counter(right)
    # Order is looked at in steps that grow with this: of words said again and again it would take hours.
    steps = sum(count * times[word] for word, count in Counter(left).items())
    return matcher.ratio() if steps <= _STEPS else matcher.quick_ratio()


def kto_rows(
    prompt: Prompt,
    candidates: Sequence[Candidate],
    standing: Standing,
    preferences: Sequence[Preference],
    rule: PairingRule,
    labels: KTOLabels = "pairs",
) -> list[KTORow]:
    """Rows for KTO, each candidate at most once.

    `pairs`: chosen responses are desirable, rejected ones undesirable. `threshold`: every candidate
    whose score is clear of the prompt's mean score by half of the pairing margin, to either side, so
    that any desirable row beats any undesirable one of its prompt by the margin.
    """
    if labels == "pairs":
        sides = [(preference.chosen, True) for preference in preferences]
        sides += [(preference.rejected, False) for preference in preferences]
        labelled = dict[str, tuple[Candidate, bool]]()
        for candidate, label in sides:
            labelled.setdefault(candidate.id, (candidate, label))
        conflicted = {p.chosen.id for p in preferences} & {p.rejected.id for p in preferences}
        chosen = [side for name, side in labelled.items() if name not in conflicted]
    else:
        chosen = _by_threshold(candidates, standing.scores, rule)
    return [KTORow(prompt, item, label, standing.scores.get(item.id)) for item, label in chosen]


def _by_threshold(
    candidates: Sequence[Candidate], scores: Mapping[str, float], rule: PairingRule
) -> list[tuple[Candidate, bool]]:
    if len(scores) < 2:
        return []
    half, middle = logit(rule.min_confidence) / 2, fmean(scores.values())
    rows = []
    for candidate in candidates:
        distance = scores.get(candidate.id, middle) - middle
        if abs(distance) < half or distance == 0:
            continue
        usable = not candidate.empty and (rule.allow_truncated or not candidate.truncated)
        if distance < 0 or usable:
            rows.append((candidate, distance > 0))
    return rows


def kto_weights(desirable: int, undesirable: int) -> tuple[float, float]:
    """(desirable, undesirable) loss weights with w_d n_d / (w_u n_u) in [1, 4/3], the smaller change.

    KTO, Ethayarajh et al. 2024 (arXiv 2402.01306, section 4.2). One of the two is always 1.
    Raises ValueError where a class is empty.
    """
    if desirable < 1 or undesirable < 1:
        raise ValueError(f"KTO needs both classes: {desirable} desirable, {undesirable} undesirable rows")
    ratio = desirable / undesirable
    if ratio < 1:
        return 1 / ratio, 1.0
    return 1.0, max(1.0, ratio / (4 / 3))

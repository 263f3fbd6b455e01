"""What moves a judge besides quality: position, length, formatting, its own family, chance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from judges.intervals import Array, Estimate, bootstrap, clopper_pearson, weighted_mean
from judges.items import Item, side
from prefgen.surface import Surface, surface


@dataclass(frozen=True, slots=True)
class Position:
    """`consistency`: share of the `n_both_orders` items with one verdict in both orders. `first_slot_rate`:
    share of decided verdicts that went to the response shown first, `p_value`: exact binomial against one
    half. `first_only`, `second_only`: items that went to one position in both orders. `log_odds`: mean of
    b = (z_ab - z_ba) / 2, towards the first position, where probabilities are stated."""

    n_both_orders: int
    consistency: float | None
    first_slot_rate: float | None
    first_slot_ci: tuple[float, float] | None
    p_value: float | None
    first_only: int
    second_only: int
    log_odds: Estimate | None


def position(items: Sequence[Item], *, seed: int = 0) -> Position:
    """The judge's liking for a position, over items without regard to what people said."""
    from scipy.stats import binomtest

    decided = [
        (verdict.verdict == "a") == (verdict.order == "ab")
        for item in items
        for verdict in item.verdicts
        if verdict.order is not None and verdict.verdict in ("a", "b")
    ]
    both = [(item, ab, ba) for item in items if None not in (ab := item.shown("ab"), ba := item.shown("ba"))]
    sides = [(side(ab or 0.0), side(ba or 0.0)) for _, ab, ba in both]
    first, n = sum(decided), len(decided)
    lean = [((ab or 0.0) - (ba or 0.0)) / 2 for item, ab, ba in both if item.stated]
    clusters = [item.cluster for item, *_ in both if item.stated]
    return Position(
        n_both_orders=len(both),
        consistency=sum(ab == ba for ab, ba in sides) / len(sides) if sides else None,
        first_slot_rate=first / n if n else None,
        first_slot_ci=clopper_pearson(first, n) if n else None,
        p_value=float(binomtest(first, n).pvalue) if n else None,
        first_only=sides.count(("a", "b")),
        second_only=sides.count(("b", "a")),
        log_odds=bootstrap(weighted_mean(np.array(lean)), clusters, seed=seed) if lean else None,
    )


@dataclass(frozen=True, slots=True)
class Leaning:
    """How often the judge and people prefer the side with more of something, over the `n` items on which
    both decided and the sides differ in it, and the difference with its interval."""

    n: int
    judge: float
    human: float
    difference: Estimate


def leaning(items: Sequence[Item], feature: str, *, seed: int = 0) -> Leaning | None:
    """The leaning to one `Surface` feature; None where no item tells.

    `difference` is positive where the judge prefers more of it than people do.
    """
    rows, clusters = [], []
    for item in items:
        more = _count(item.pair.a.text, feature) - _count(item.pair.b.text, feature)
        if more and item.human != "tie" and item.verdict not in (None, "tie"):
            longer = "a" if more > 0 else "b"
            rows.append((item.verdict == longer, item.human == longer))
            clusters.append(item.cluster)
    if not rows:
        return None
    judge, human = np.array(rows, np.float64).T
    difference = bootstrap(weighted_mean(judge - human), clusters, seed=seed)
    assert difference is not None, "a mean of at least one value"
    return Leaning(len(rows), float(judge.mean()), float(human.mean()), difference)


def leanings(items: Sequence[Item], *, seed: int = 0) -> dict[str, Leaning]:
    """Every surface feature that tells."""
    found = {field.name: leaning(items, field.name, seed=seed) for field in fields(Surface)}
    return {name: told for name, told in found.items() if told is not None}


def _count(text: str, feature: str) -> int:
    count: int = getattr(surface(text), feature)
    return count


@dataclass(frozen=True, slots=True)
class SelfPreference:
    """`own`: share of items on which people prefer the response of the judge's family and the judge does too;
    `other`: the same where people prefer the other side. Equal without self-preference."""

    n_own: int
    n_other: int
    own: float
    other: float
    difference: Estimate


def self_preference(
    items: Sequence[Item], authors: Callable[[Item], tuple[bool, bool]], *, seed: int = 0
) -> SelfPreference | None:
    """Difference of the two shares (Wataoka et al. 2024, arXiv 2410.21819).

    `authors`: whether the judge's family wrote a, and b; items where it wrote neither or both do not count.
    None where people never prefer one of the kinds.
    """
    rows, clusters = [], []
    for item in items:
        wrote = authors(item)
        if sum(wrote) == 1 and item.human != "tie" and item.verdict not in (None, "tie"):
            rows.append(((item.human == "a") == wrote[0], item.verdict == item.human))
            clusters.append(item.cluster)
    own, agrees = np.array(rows, np.float64).reshape(-1, 2).T
    if not 0 < own.sum() < len(rows):
        return None
    rates = [float(agrees[own == kind].mean()) for kind in (1, 0)]

    def gap(weights: Array) -> Array:
        with np.errstate(invalid="ignore"):
            ours = weights @ (own * agrees) / (weights @ own)
            theirs: Array = weights @ ((1 - own) * agrees) / (weights @ (1 - own))
        return ours - theirs

    difference = bootstrap(gap, clusters, seed=seed)
    assert difference is not None, "both kinds occur"
    return SelfPreference(int(own.sum()), int(len(rows) - own.sum()), rates[0], rates[1], difference)


@dataclass(frozen=True, slots=True)
class Repeats:
    """`agreement`: probability that two answers to one question, asked again, are the same."""

    n_questions: int
    agreement: Estimate


def repeats(items: Sequence[Item], *, seed: int = 0) -> Repeats | None:
    """Test-retest over questions (item, order, judge) with several usable verdicts; None without any."""
    same, clusters = [], []
    for item in items:
        asked = defaultdict[object, Counter[str]](Counter)
        for verdict in item.verdicts:
            if verdict.verdict is not None:
                asked[verdict.order, verdict.judge][verdict.verdict] += 1
        for answers in asked.values():
            n = answers.total()
            if n > 1:
                same.append(sum(count * (count - 1) for count in answers.values()) / (n * (n - 1)))
                clusters.append(item.cluster)
    estimate = bootstrap(weighted_mean(np.array(same)), clusters, seed=seed) if same else None
    return None if estimate is None else Repeats(len(same), estimate)

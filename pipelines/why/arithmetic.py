"""How what was said of two responses became one number, in numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from prefgen.judgment import JudgeResult, Judgment


@dataclass(frozen=True, slots=True)
class Term:
    """One principle (None: all in one question). `value`: log-odds that the better one wins by it, which
    counts with `weight`, a share. Of pairs `first` and `second` hold the log-odds with the better one shown
    first and second; of responses judged alone, those of the better and of the worse one."""

    principle: str | None
    weight: float
    value: float
    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def counts(self) -> float:
        return self.weight * self.value


@dataclass(frozen=True, slots=True)
class Sum:
    """One judge's terms; `pairs`: whether it compared the two, or judged each alone."""

    judge: str
    pairs: bool
    terms: tuple[Term, ...]

    @property
    def margin(self) -> float:
        return sum(term.counts for term in self.terms)


def sums(results: Iterable[JudgeResult], weights: Mapping[str, float], better: str, worse: str) -> list[Sum]:
    """Of each judge that spoke of both; `weights` as in `prefgen.verdicts.Weighing.principles`."""
    heard: dict[str, list[Judgment]] = defaultdict(list)
    for result in results:
        if isinstance(result, Judgment) and is_on(result, better, worse):
            heard[result.provenance.judge].append(result)
    told = (_sum(judge, said, weights, better) for judge, said in heard.items())
    return [found for found in told if found.terms]


def is_on(result: JudgeResult, a: str, b: str) -> bool:
    """Whether a result is on this pair, or on one of the two alone."""
    return {result.a_id, result.b_id or result.a_id} <= {a, b}


def _sum(judge: str, said: Sequence[Judgment], weights: Mapping[str, float], better: str) -> Sum:
    pairs = any(item.b_id is not None for item in said)
    by_principle: dict[str | None, list[Judgment]] = defaultdict(list)
    for item in said:
        turned = item.swap() if pairs and item.a_id != better else item
        by_principle[item.provenance.principle].append(turned)
    parts = {name: _split(items, pairs, better) for name, items in by_principle.items()}
    heard = {name: part for name, part in parts.items() if pairs or all(part)}
    total = sum(weights.get(name or "", 1.0) for name in heard) or 1.0
    terms = (
        Term(name, weights.get(name or "", 1.0) / total, _value(by_principle[name], part, pairs), *part)
        for name, part in heard.items()
    )
    return Sum(judge, pairs, tuple(terms))


def _split(
    items: Sequence[Judgment], pairs: bool, better: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    sides: tuple[list[float], list[float]] = ([], [])
    for item in items:
        second = item.provenance.order == "ba" if pairs else item.a_id != better
        sides[second].append(item.log_odds)
    return tuple(sides[0]), tuple(sides[1])


def _value(
    items: Sequence[Judgment], part: tuple[tuple[float, ...], tuple[float, ...]], pairs: bool
) -> float:
    """Mean over orders and votes; of responses judged alone the difference of their means."""
    return fmean(item.log_odds for item in items) if pairs else fmean(part[0]) - fmean(part[1])

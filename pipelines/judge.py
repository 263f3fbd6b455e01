"""Judging responses that exist already: pairs in, verdicts out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from judges.judge import Judge
from prefgen.judgment import JudgeResult, sigmoid
from prefgen.labels import Pair
from prefgen.verdicts import settle


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """`margin`: log-odds that a beats b, over all orders and principles; None when a judgment failed."""

    pair: Pair
    results: tuple[JudgeResult, ...]
    margin: float | None


async def judge_pair(judge: Judge, pair: Pair) -> JudgedPair:
    """One pair through a judge; a failed call leaves no margin and is not raised."""
    results = await judge.judge(pair.prompt, [pair.a, pair.b])
    return JudgedPair(pair, tuple(results), _margin(judge, pair, results))


async def judge_pairs(judge: Judge, pairs: Iterable[Pair]) -> list[JudgedPair]:
    """All pairs at once, in order."""
    return list(await asyncio.gather(*(judge_pair(judge, pair) for pair in pairs)))


def verdict_rows(judge: Judge, judged: JudgedPair) -> list[dict[str, Any]]:
    """Rows of a verdicts file: one for each order shown, or one where responses are scored alone."""
    pair = judged.pair
    orders = sorted({result.provenance.order for result in judged.results if result.provenance.order})
    if not orders:
        return [_row(judge, pair, None, judged.margin)]
    shown = {order: [item for item in judged.results if item.provenance.order == order] for order in orders}
    return [_row(judge, pair, order, _margin(judge, pair, results)) for order, results in shown.items()]


def _margin(judge: Judge, pair: Pair, results: Sequence[JudgeResult]) -> float | None:
    standing = settle([pair.a.id, pair.b.id], results, judge.weights)
    return standing.margin(pair.a.id, pair.b.id)


def _row(judge: Judge, pair: Pair, order: str | None, margin: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {"id": pair.id, "verdict": None, "p_a": None, "order": order, "judge": judge.name}
    if margin is None:
        return row
    verdict = "a" if margin > 0 else "b" if margin < 0 else "tie"
    return row | {"verdict": verdict, "p_a": sigmoid(margin)}

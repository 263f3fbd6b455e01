"""Judging responses that exist already: pairs in, verdicts out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judges.judge import Judge
from pipelines.console import Console
from pipelines.generate_config import JudgeConfig
from pipelines.judging import check_judging, make_judge, roles_of
from prefgen.comparison import Order
from prefgen.errors import GateError
from prefgen.files import json_lines, write_whole
from prefgen.judgment import JudgeFailure, JudgeResult, sigmoid
from prefgen.labels import Pair, read_pairs
from prefgen.ledger import Ledger, default_path
from prefgen.records import check_unwritten
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
    """Rows of a verdicts file: one for each judge and order shown; one a judge where responses are scored
    alone."""
    said: dict[tuple[str, Order | None], list[JudgeResult]] = {}
    for result in judged.results:
        said.setdefault((result.provenance.judge, result.provenance.order), []).append(result)
    return [_row(judge, judged.pair, who, order, told) for (who, order), told in said.items()]


def _row(
    judge: Judge, pair: Pair, who: str, order: str | None, results: Sequence[JudgeResult]
) -> dict[str, Any]:
    row: dict[str, Any] = {"id": pair.id, "verdict": None, "p_a": None, "order": order, "judge": who}
    margin = _margin(judge, pair, results)
    if margin is None:
        return row
    verdict = "a" if margin > 0 else "b" if margin < 0 else "tie"
    row |= {"verdict": verdict, "p_a": sigmoid(margin)}
    principles = _by_principle(judge, pair, results)
    return row | {"principles": principles} if principles else row


def _by_principle(judge: Judge, pair: Pair, results: Sequence[JudgeResult]) -> dict[str, float]:
    """The probability that a is better by each principle, where they are asked one by one."""
    told = {
        name: _margin(judge, pair, [item for item in results if item.provenance.principle == name])
        for name in judge.weighing.principles
    }
    return {name: sigmoid(margin) for name, margin in told.items() if margin is not None}


def _margin(judge: Judge, pair: Pair, results: Sequence[JudgeResult]) -> float | None:
    standing = settle([pair.a.id, pair.b.id], results, judge.weighing)
    return standing.margin(pair.a.id, pair.b.id)


async def judge_file(config: JudgeConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Judges the pairs of a file and writes the verdicts, one JSON object a line.

    Raises UsageError and its kin for bad input, GateError when too many calls failed.
    """
    check_judging(config)
    check_unwritten(config.out, overwrite)
    pairs = list(read_pairs(config.pairs, text=config.reference))
    with Ledger(config.ledger or default_path()) as ledger:
        async with roles_of(config, ledger, console) as roles:
            judge = await make_judge(config, roles)
            judged = await judge_pairs(judge, pairs)
            usage = roles.usage
    write_verdicts(judge, judged, config.out)
    results = [result for item in judged for result in item.results]
    failures = Counter(result.status for result in results if isinstance(result, JudgeFailure))
    if sum(failures.values()) > config.max_failure_share * len(results):
        causes = ", ".join(f"{status}: {count}" for status, count in failures.most_common())
        raise GateError(f"{sum(failures.values())} of {len(results)} judge calls failed ({causes})")
    return {"n": len(pairs), "failures": dict(failures), "usage": usage, "out": str(config.out)}


def judge_summary(result: Mapping[str, Any]) -> str:
    failed = ", ".join(f"{name} {count}" for name, count in result["failures"].items()) or "none"
    return f"{result['n']} pairs judged; failed calls: {failed}; written to {result['out']}"


def write_verdicts(judge: Judge, judged: Iterable[JudgedPair], out: Path) -> None:
    rows = (row for item in judged for row in verdict_rows(judge, item))
    write_whole(out, json_lines(rows))

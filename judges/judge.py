"""What every judge is: something that looks at the candidates of one prompt and says what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from judges.asking import Answer
from judges.constitution import Constitution, Principle
from judges.evidence import Reading
from prefgen.candidate import Candidate
from prefgen.comparison import Order
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.prompt import Prompt
from prefgen.verdicts import Weighing

T = TypeVar("T")


class Judge(Protocol):
    """`judge` never raises for a failed call: a failure is one of its results.

    `weighing`: for `prefgen.verdicts.settle`.
    """

    name: str
    weighing: Weighing

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]: ...


async def gather(questions: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once, results in order; one unexpected error cancels the rest, which would keep billing."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(question) for question in questions]
    return [task.result() for task in tasks]


def provenance_of(
    answer: Answer[Any],
    judge: str,
    constitution: Constitution,
    principle: Principle | None = None,
    order: Order | None = None,
) -> Provenance:
    """Where an answer comes from. `principle`: the one that was asked about, None where all were."""
    return Provenance(
        judge=judge,
        served=answer.served,
        template=answer.template,
        constitution=constitution.hash,
        principle=principle.id if principle else None,
        order=order,
        ledger_key=answer.key,
        evidence=answer.evidence,
    )


def record(
    answer: Answer[Reading],
    provenance: Provenance,
    prompt: Prompt,
    a: Candidate,
    b: Candidate | None,
    sign: int = 1,
) -> JudgeResult:
    """An answer as a judgment of (a, b), or as a failure. `sign` -1 where b was shown first."""
    b_id = None if b is None else b.id
    if isinstance(answer.result, Reading):
        odds, coverage = sign * answer.result.log_odds, answer.result.coverage
        return Judgment(prompt.id, a.id, b_id, odds, provenance, answer.raw, coverage, answer.cost_usd)
    return JudgeFailure(prompt.id, a.id, b_id, answer.result.status, provenance, answer.raw, answer.cost_usd)

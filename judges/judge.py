"""What every judge is: something that looks at the candidates of one prompt and says what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from judges.asking import Answer
from judges.evidence import Reading
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.prompt import Prompt


class Judge(Protocol):
    """`judge` never raises for a failed call: a failure is one of its results.

    `weights`: share of each principle, for `prefgen.verdicts.settle`.
    """

    name: str
    weights: Mapping[str, float]

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]: ...


async def gather(questions: Iterable[Coroutine[Any, Any, JudgeResult]]) -> list[JudgeResult]:
    """All at once, results in order; one unexpected error cancels the rest, which would keep billing."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(question) for question in questions]
    return [task.result() for task in tasks]


def record(
    answer: Answer, provenance: Provenance, prompt: Prompt, a: Candidate, b: Candidate | None, sign: int = 1
) -> JudgeResult:
    """An answer as a judgment of (a, b), or as a failure. `sign` -1 where b was shown first."""
    b_id = None if b is None else b.id
    if isinstance(answer.result, Reading):
        odds, coverage = sign * answer.result.log_odds, answer.result.coverage
        return Judgment(prompt.id, a.id, b_id, odds, provenance, answer.raw, coverage, answer.cost_usd)
    return JudgeFailure(prompt.id, a.id, b_id, answer.result.status, provenance, answer.raw, answer.cost_usd)

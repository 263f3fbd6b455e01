"""Several judges asked at once. Each one's judgments are kept; `prefgen.verdicts.settle` pools them.

Panels of small judges: Verga et al. 2024 (arXiv 2404.18796). Judges share their errors, so the third tells
less than the second, and one that is always sure carries a mean: a median does not let it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from judges.judge import Judge
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult
from prefgen.prompt import Prompt
from prefgen.verdicts import Weighing


class Jury:
    """At least two judges under one constitution, asked in one way."""

    def __init__(self, judges: Sequence[Judge], weighing: Weighing) -> None:
        self._judges = judges
        self.name = " + ".join(judge.name for judge in judges)
        self.weighing = weighing

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(judge.judge(prompt, candidates)) for judge in self._judges]
        return [result for task in asked for result in task.result()]

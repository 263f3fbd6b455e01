"""A reward model as a judge: the difference of two scores is the log-odds of the pair (Bradley-Terry)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from judges.judge import gather
from prefgen.candidate import Candidate
from prefgen.errors import CallError
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedRewardModel
from prefgen.verdicts import ALIKE


class RewardJudge:
    def __init__(self, model: RecordedRewardModel) -> None:
        self._model = model
        self.name = model.spec
        self.weighing = ALIKE

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        return await gather(self._score(prompt, candidate) for candidate in candidates)

    async def _score(self, prompt: Prompt, candidate: Candidate) -> JudgeResult:
        key = self._model.key(prompt.messages, candidate.text).hex()
        provenance = Provenance(self.name, self._model.identity, "", ledger_key=key, evidence="reward")
        try:
            score = await self._model.score(prompt.messages, candidate.text)
        except CallError as error:
            return JudgeFailure(prompt.id, candidate.id, None, error.status, provenance, str(error))
        if not math.isfinite(score):
            return JudgeFailure(prompt.id, candidate.id, None, "parse_failure", provenance, repr(score))
        return Judgment(prompt.id, candidate.id, None, score, provenance, repr(score))

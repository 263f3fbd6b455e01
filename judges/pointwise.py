"""The pointwise judge: does this response follow this principle? P(yes), principle by principle.

A response's score is the weighted mean over principles of logit P(yes) (after RLBFF, Wang et al. 2025,
arXiv 2509.21319): no position to be biased by, and the number of calls grows with the candidates, not
with their pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from judges.asking import Asking, Question, ask, wordings
from judges.constitution import Constitution, Principle
from judges.judge import gather, record
from judges.prompting import Template, fence, shipped
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult, Provenance
from prefgen.messages import content_hash
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel

REQUIRED = {"principle", "prompt", "response"}
PLACEHOLDERS = REQUIRED | {"fence", "question"}
_WORDINGS = wordings("principle")


class PointwiseJudge:
    """`template`: a text of the user's own with the placeholders of `PLACEHOLDERS`."""

    def __init__(
        self,
        model: RecordedModel,
        constitution: Constitution,
        asking: Asking,
        *,
        template: Template | None = None,
    ) -> None:
        self._model, self._constitution, self._asking = model, constitution, asking
        self._body = template or shipped("principle")
        self.name = model.spec
        self.weights: Mapping[str, float] = constitution.weights

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        return await gather(
            self._ask(prompt, candidate, principle)
            for candidate in candidates
            for principle in self._constitution.principles
        )

    async def _ask(self, prompt: Prompt, candidate: Candidate, principle: Principle) -> JudgeResult:
        answer = await ask(self._model, self._question(prompt, candidate, principle), self._asking)
        provenance = Provenance(
            judge=self.name,
            served=answer.served,
            template=content_hash([self._body.text, _WORDINGS[answer.evidence].text]),
            constitution=self._constitution.hash,
            principle=principle.id,
            ledger_key=answer.key,
            evidence=answer.evidence,
        )
        return record(answer, provenance, prompt, candidate, None)

    def _question(self, prompt: Prompt, candidate: Candidate, principle: Principle) -> Question:
        values = {
            "principle": principle.text,
            "fence": fence(prompt.text, candidate.text),
            "prompt": prompt.text,
            "response": candidate.text,
        }
        return Question(self._body, values, _WORDINGS, ("yes", "no"), "percent_yes")

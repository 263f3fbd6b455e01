"""The pointwise judge: does this response follow this principle? P(yes), principle by principle.

A response's score is the weighted mean over principles of logit P(yes) (after RLBFF, Wang et al. 2025,
arXiv 2509.21319): no position to be biased by, and the number of calls grows with the candidates, not
with their pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

from judges.asking import Asking, Question, ask, wordings
from judges.constitution import Constitution, Principle
from judges.evidence import Reading, TwoWords
from judges.judge import gather, provenance_of, record
from judges.prompting import Template, fenced, shipped
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.verdicts import Weighing

REQUIRED = {"principle", "prompt", "response"}
PLACEHOLDERS = REQUIRED | {"fence", "question", "reference"}
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
        self.weighing = Weighing(constitution.weights)

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        return await gather(
            self._ask(prompt, candidate, principle, len(candidates))
            for candidate in candidates
            for principle in self._constitution.principles
        )

    async def _ask(
        self, prompt: Prompt, candidate: Candidate, principle: Principle, beside: int
    ) -> JudgeResult:
        answer = await ask(self._model, self._question(prompt, candidate, principle, beside), self._asking)
        provenance = provenance_of(answer, self.name, self._constitution, principle)
        return record(answer, provenance, prompt, candidate, None)

    def _question(
        self, prompt: Prompt, candidate: Candidate, principle: Principle, beside: int
    ) -> Question[Reading]:
        values = fenced(prompt, self._asking.reference, response=candidate.text)
        values["principle"] = principle.text
        form = TwoWords(("yes", "no"), "percent_yes")
        principles = len(self._constitution.principles)
        return Question(self._body, values, _WORDINGS, form, beside, principles)

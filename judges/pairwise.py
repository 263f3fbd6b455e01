"""The pairwise judge: which of two responses follows the constitution better?

Three ways to use the principles: all at once in one question; one sampled per comparison, as in
Constitutional AI (Bai et al. 2022, arXiv 2212.08073); each in a question of its own, weighted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from judges.asking import Asking, Question, ask, wordings
from judges.constitution import Constitution, Principle
from judges.evidence import Reading, TwoWords
from judges.judge import gather, provenance_of, record
from judges.prompting import fenced, shipped
from judges.ranking import Match, Meetings, play, round_robin, schedule
from prefgen.candidate import Candidate
from prefgen.comparison import Comparison, Order
from prefgen.judgment import JudgeResult
from prefgen.messages import content_hash
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.verdicts import Weighing

PrincipleMode = Literal["all", "sample", "each"]
_BODY = shipped("pairwise")
_WORDINGS = wordings("pairwise")


class PairwiseJudge:
    """`meetings`: who meets whom (`judges.ranking`), with so many `rounds`. A round robin asks every pair in
    both orders unless `both_orders` is off."""

    def __init__(
        self,
        model: RecordedModel,
        constitution: Constitution,
        asking: Asking,
        *,
        principles: PrincipleMode = "all",
        both_orders: bool = True,
        meetings: Meetings = "round-robin",
        rounds: int = 1,
    ) -> None:
        self._model, self._constitution, self._asking = model, constitution, asking
        self._mode = principles
        self._both_orders, self._meetings, self._rounds = both_orders, meetings, rounds
        self.name = model.spec
        # A sampled principle speaks for all of them: it counts as it stands.
        self.weighing = Weighing(constitution.weights if principles == "each" else {})

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        by_id = {candidate.id: candidate for candidate in candidates}
        ids = list(by_id)

        def told(match: Match) -> tuple[Comparison, Order]:
            a, b = sorted(match, key=ids.index)
            return Comparison(prompt, by_id[a], by_id[b]), "ab" if match == (a, b) else "ba"

        async def ask_all(matches: Sequence[Match]) -> list[JudgeResult]:
            return await gather(
                self._ask(comparison, principle, order, len(matches))
                for comparison, order in map(told, matches)
                for principle in self._principles(comparison)
            )

        if self._meetings == "round-robin":
            return await ask_all(round_robin(ids, self._both_orders))
        matches = schedule(self._meetings, ids, self._rounds, self._asking.seed)
        return await play(ids, matches, ask_all, self.weighing)

    def _principles(self, comparison: Comparison) -> tuple[Principle | None, ...]:
        match self._mode:
            case "all":
                return (None,)
            case "each":
                return self._constitution.principles
            case "sample":
                pair = sorted((comparison.a.id, comparison.b.id))
                draw = random.Random(content_hash([self._asking.seed, *pair]))
                options = self._constitution.principles
                return tuple(draw.choices(options, [item.weight for item in options]))

    async def _ask(
        self, comparison: Comparison, principle: Principle | None, order: Order, beside: int
    ) -> JudgeResult:
        shown = comparison if order == "ab" else comparison.swap()
        answer = await ask(self._model, self._question(shown, principle, beside), self._asking)
        provenance = provenance_of(answer, self.name, self._constitution, principle, order)
        sign = 1 if order == "ab" else -1
        return record(answer, provenance, comparison.prompt, comparison.a, comparison.b, sign)

    def _question(self, shown: Comparison, principle: Principle | None, beside: int) -> Question[Reading]:
        values = fenced(
            shown.prompt, self._asking.reference, response_a=shown.a.text, response_b=shown.b.text
        )
        values["principles"] = principle.text if principle else self._constitution.as_list()
        return Question(_BODY, values, _WORDINGS, TwoWords(("A", "B"), "percent_a"), beside)

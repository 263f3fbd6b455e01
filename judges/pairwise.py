"""The pairwise judge: which of two responses follows the constitution better?

Three ways to use the principles: all at once in one question; one sampled per comparison, as in
Constitutional AI (Bai et al. 2022, arXiv 2212.08073); each in a question of its own, weighted.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

from judges.asking import Asking, Question, ask, wordings
from judges.constitution import Constitution, Principle
from judges.judge import gather, record
from judges.prompting import fence, shipped
from prefgen.candidate import Candidate
from prefgen.comparison import Comparison, Order
from prefgen.judgment import JudgeResult, Provenance
from prefgen.messages import content_hash
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel

PrincipleMode = Literal["all", "sample", "each"]
_BODY = shipped("pairwise")
_WORDINGS = wordings("pairwise")


class PairwiseJudge:
    """Every candidate meets every other, in both orders unless `both_orders` is off."""

    def __init__(
        self,
        model: RecordedModel,
        constitution: Constitution,
        asking: Asking,
        *,
        principles: PrincipleMode = "all",
        both_orders: bool = True,
    ) -> None:
        self._model, self._constitution, self._asking = model, constitution, asking
        self._mode = principles
        self._orders: tuple[Order, ...] = ("ab", "ba") if both_orders else ("ab",)
        self.name = model.spec
        # A sampled principle speaks for all of them: it counts as it stands.
        self.weights: Mapping[str, float] = constitution.weights if principles == "each" else {}

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        comparisons = [Comparison(prompt, a, b) for a, b in combinations(candidates, 2)]
        return await gather(
            self._ask(comparison, principle, order)
            for comparison in comparisons
            for principle in self._principles(comparison)
            for order in self._orders
        )

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

    async def _ask(self, comparison: Comparison, principle: Principle | None, order: Order) -> JudgeResult:
        shown = comparison if order == "ab" else comparison.swap()
        answer = await ask(self._model, self._question(shown, principle), self._asking)
        provenance = Provenance(
            judge=self.name,
            served=answer.served,
            template=content_hash([_BODY.text, _WORDINGS[answer.evidence].text]),
            constitution=self._constitution.hash,
            principle=principle.id if principle else None,
            order=order,
            ledger_key=answer.key,
            evidence=answer.evidence,
        )
        sign = 1 if order == "ab" else -1
        return record(answer, provenance, comparison.prompt, comparison.a, comparison.b, sign)

    def _question(self, shown: Comparison, principle: Principle | None) -> Question:
        first, second = shown.a.text, shown.b.text
        values = {
            "principles": principle.text if principle else self._constitution.as_list(),
            "fence": fence(shown.prompt.text, first, second),
            "prompt": shown.prompt.text,
            "response_a": first,
            "response_b": second,
        }
        return Question(_BODY, values, _WORDINGS, ("A", "B"), "percent_a")

"""The score judge: how good is this response, on a scale whose levels have texts?

The score is the expected level under the judge's own distribution, not its most likely level: the mean
tells apart what the mode holds for equal (Wang, Zhang and Choi 2025, arXiv 2503.03064; direct RLAIF in Lee et
al. 2023, arXiv 2309.00267). Without log-probabilities it is the level the judge states, or the mean of k
votes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from judges.asking import Asking, Question, ask, wordings
from judges.constitution import Constitution
from judges.evidence import Evidence, Reading, Unreadable, read_mass, read_number, read_verdict, readable
from judges.judge import gather, provenance_of, record
from judges.prompting import Template, fenced, shipped
from judges.scale import Scale
from prefgen.candidate import Candidate
from prefgen.completion import Completion
from prefgen.judgment import JudgeResult, logit
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.verdicts import ALIKE

_BODY = shipped("score")
_WORDINGS = wordings("score")


def score_log_odds(score: float, scores: Sequence[int]) -> float:
    """An expected score as log-odds: the logit of its place on the scale, half a level from either end.

    With K levels and x the score's place from 0 to 1, p = ((K - 1) x + 1/2) / K. The logit puts scores on the
    scale of the other judges, of which a linear score knows nothing; the half level keeps the ends, where a
    judge is no surer than elsewhere, from being infinitely far from their neighbours. On five levels 4 over 3
    is a probability of .70, 5 over 4 of .79, 5 over 1 of .99: plausible before, to be put right by
    calibration.
    """
    low, high = min(scores), max(scores)
    place = (score - low) / (high - low)
    return logit(((len(scores) - 1) * place + 0.5) / len(scores))


@dataclass(frozen=True, slots=True)
class LevelForm:
    """The answer is one of `scores`, or where it is written in JSON a number between them."""

    scores: tuple[int, ...]
    field: str = "score"
    type: Literal["number"] = "number"

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(map(str, self.scores))

    def read(self, evidence: Evidence, completions: Sequence[Completion]) -> Reading | Unreadable:
        match evidence:
            case "logprobs":
                return self._read_mass(completions[0])
            case "score":
                low, high = min(self.scores), max(self.scores)
                score = read_number(completions[0], self.field, low, high)
                return score if isinstance(score, Unreadable) else self._reading(score)
            case "votes":
                votes = readable([self._read_vote(completion) for completion in completions])
                return votes if isinstance(votes, Unreadable) else self._reading(sum(votes) / len(votes))

    def _reading(self, score: float, coverage: float | None = None) -> Reading:
        return Reading(score_log_odds(score, self.scores), coverage)

    def _read_mass(self, completion: Completion) -> Reading | Unreadable:
        """Over the levels the provider returned; those it did not lie below them."""
        mass = read_mass(completion, self.words)
        if isinstance(mass, Unreadable):
            return mass
        coverage = sum(mass.values())
        expected = sum(int(word) * share for word, share in mass.items()) / coverage
        return self._reading(expected, min(coverage, 1.0))

    def _read_vote(self, completion: Completion) -> int | Unreadable:
        word = read_verdict(completion)
        if isinstance(word, Unreadable):
            return word
        return int(word) if word in self.words else Unreadable("parse_failure")


class ScoreJudge:
    """One question a response, about all principles at once."""

    def __init__(
        self, model: RecordedModel, constitution: Constitution, asking: Asking, scale: Scale
    ) -> None:
        self._model, self._constitution, self._asking = model, constitution, asking
        # The levels are part of the question, so that its hash knows them.
        self._wordings: Mapping[Evidence, Template] = {
            evidence: Template(f"Levels:\n{scale.as_list()}\n\n{wording.text}")
            for evidence, wording in _WORDINGS.items()
        }
        self._form = LevelForm(scale.scores)
        self.name = model.spec
        self.weighing = ALIKE

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        return await gather(self._ask(prompt, candidate, len(candidates)) for candidate in candidates)

    async def _ask(self, prompt: Prompt, candidate: Candidate, beside: int) -> JudgeResult:
        answer = await ask(self._model, self._question(prompt, candidate, beside), self._asking)
        provenance = provenance_of(answer, self.name, self._constitution)
        return record(answer, provenance, prompt, candidate, None)

    def _question(self, prompt: Prompt, candidate: Candidate, beside: int) -> Question[Reading]:
        values = fenced(prompt, self._asking.reference, response=candidate.text)
        values["principles"] = self._constitution.as_list()
        return Question(_BODY, values, self._wordings, self._form, beside)

"""Critique and revision: the supervised stage of Constitutional AI.

After Bai et al. 2022, arXiv 2212.08073, section 3: a response is criticised by a sampled principle and
rewritten to answer the critique, several times over. Each round draws its principle anew, so that the last
revision has met several.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from judges.constitution import Constitution, Principle
from judges.prompting import fenced, shipped
from prefgen.completion import CompletionRequest
from prefgen.errors import CallError
from prefgen.messages import Messages, content_hash, user
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.sampling import SamplingPlan, prompt_seed, sample

_CRITIQUE, _REVISION = shipped("critique"), shipped("revision")


@dataclass(frozen=True, slots=True)
class Round:
    """One critique and the revision that answers it. `number` counts from 1."""

    number: int
    principle: str
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class Revised:
    """What became of one prompt. `stopped`: why the last round, or the response itself, could not be used:
    `api_error` and `timeout` are failed calls, owed on resume; `empty`, `truncated` and `refusal` are
    answers; `unchanged`: the last revision says what the response said."""

    prompt: Prompt
    response: str = ""
    rounds: tuple[Round, ...] = ()
    stopped: str | None = None

    @property
    def revision(self) -> str | None:
        """The last revision; None where the rounds did not come to a usable end."""
        return self.rounds[-1].revision if self.rounds and self.stopped is None else None


@dataclass(frozen=True, slots=True)
class _Stopped:
    why: str


@dataclass(frozen=True, slots=True)
class Reviser:
    """`policy` writes response and revisions, `critic` the critiques; `rounds` of them, at least one. `plan`:
    how all of it is sampled; its system prompt is for the response."""

    policy: RecordedModel
    critic: RecordedModel
    constitution: Constitution
    rounds: int
    plan: SamplingPlan

    async def revise(self, prompt: Prompt) -> Revised:
        """All rounds of one prompt; a failed call ends them and is not raised."""
        sampled = await sample(prompt, [self.policy], replace(self.plan, n=1))
        if sampled.failures:
            return Revised(prompt, stopped=sampled.failures[0])
        response = _usable(sampled.candidates[0].text, sampled.candidates[0].finish_reason)
        if isinstance(response, _Stopped):
            return Revised(prompt, stopped=response.why)
        text, rounds = response, tuple[Round, ...]()
        for number in range(1, self.rounds + 1):
            made = await self._round(prompt, text, number)
            if isinstance(made, _Stopped):
                return Revised(prompt, response, rounds, made.why)
            text, rounds = made.revision, (*rounds, made)
        return Revised(prompt, response, rounds, "unchanged" if text.strip() == response.strip() else None)

    async def _round(self, prompt: Prompt, text: str, number: int) -> Round | _Stopped:
        principle = draw_principle(self.constitution, self.plan.seed, prompt.id, number)
        values = fenced(prompt, response=text) | {"principle": principle.text}
        critique = await self._write(self.critic, prompt, user(_CRITIQUE.fill(values)), number)
        if isinstance(critique, _Stopped):
            return critique
        values = fenced(prompt, response=text, critique=critique) | {"principle": principle.text}
        revision = await self._write(self.policy, prompt, user(_REVISION.fill(values)), number)
        if isinstance(revision, _Stopped):
            return revision
        return Round(number, principle.id, critique, revision)

    async def _write(
        self, model: RecordedModel, prompt: Prompt, messages: Messages, number: int
    ) -> str | _Stopped:
        """A draw of its own for each round: a text that was left as it is gets another chance."""
        sampling = replace(self.plan.sampling, seed=prompt_seed(self.plan.seed, prompt.id))
        try:
            reply = await model.complete(CompletionRequest(messages, sampling, samples=(number,)))
        except CallError as error:
            return _Stopped(error.status)
        return _usable(reply.completions[0].text, reply.completions[0].finish_reason)


def draw_principle(constitution: Constitution, seed: int, prompt_id: str, number: int) -> Principle:
    """The principle of a round, drawn by weight; the same for the same seed, prompt and round."""
    draw = random.Random(content_hash([seed, prompt_id, number]))
    options = constitution.principles
    return draw.choices(options, [item.weight for item in options])[0]


def _usable(text: str, finish_reason: str) -> str | _Stopped:
    match finish_reason:
        case "length":
            return _Stopped("truncated")
        case "refusal":
            return _Stopped("refusal")
        case _:
            return text if text.strip() else _Stopped("empty")

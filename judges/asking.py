"""One question to a judge model, through whatever evidence the model can give.

A reply that cannot be read is asked for once more (the only retry that belongs to the judge); the same
model error is retried by the engine and by nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from judges.evidence import (
    Evidence,
    Reading,
    Unreadable,
    best_evidence,
    read_logprobs,
    read_score,
    read_votes,
)
from judges.prompting import Template, shipped
from prefgen.completion import Completion, CompletionRequest, Sampling
from prefgen.errors import CallError
from prefgen.messages import Json, Message, user
from prefgen.recorded import RecordedModel

_REASK = shipped("reask")
_LETTER_TOKENS = 4


def wordings(kind: str) -> dict[Evidence, Template]:
    """The shipped question of a kind of judge, for each evidence."""
    return {evidence: shipped(f"{kind}_{evidence}") for evidence in get_args(Evidence)}


@dataclass(frozen=True, slots=True)
class Asking:
    """How a judge asks. `evidence` auto takes the best the model gives. `votes`: written verdicts per
    question where votes are the evidence. `attempt`: how often the run was resumed after it had
    finished; each resumption grants what failed two further asks."""

    evidence: Evidence | Literal["auto"] = "auto"
    votes: int = 1
    max_tokens: int = 1024
    seed: int = 0
    attempt: int = 0

    @property
    def asks(self) -> int:
        return 2 * (1 + self.attempt)


@dataclass(frozen=True, slots=True)
class Question:
    """A template with everything filled in but `{{question}}`, and its wording for each evidence.

    `words`: the two answers, the first being what log-odds are of. `field`: the JSON field that holds
    the first answer's percentage.
    """

    body: Template
    values: Mapping[str, str]
    wordings: Mapping[Evidence, Template]
    words: tuple[str, str]
    field: str

    def request(self, evidence: Evidence, asking: Asking) -> CompletionRequest:
        text = self.body.fill({**self.values, "question": self.wordings[evidence].text})
        match evidence:
            case "logprobs":
                return CompletionRequest(
                    user(text),
                    Sampling(max_tokens=_LETTER_TOKENS, temperature=0.0),
                    label_words=self.words,
                    choices=self.words,
                )
            case "score":
                return CompletionRequest(
                    user(text), Sampling(max_tokens=asking.max_tokens, temperature=0.0), schema=self._schema()
                )
            case "votes":
                temperature = 0.0 if asking.votes == 1 else 1.0
                return CompletionRequest(
                    user(text),
                    Sampling(max_tokens=asking.max_tokens, temperature=temperature, seed=asking.seed),
                    samples=tuple(range(asking.votes)),
                )

    def read(self, evidence: Evidence, completions: tuple[Completion, ...]) -> Reading | Unreadable:
        match evidence:
            case "logprobs":
                return read_logprobs(completions[0], self.words)
            case "score":
                return read_score(completions[0], self.field)
            case "votes":
                return read_votes(completions, self.words)

    def _schema(self) -> dict[str, Json]:
        """Reasoning first: a verdict written before its reasons is not helped by them."""
        return {
            "type": "object",
            "properties": {"reason": {"type": "string"}, self.field: {"type": "number"}},
            "required": ["reason", self.field],
            "additionalProperties": False,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """`result`: the reading, or why there is none. `key`: ledger key of the (first) reply.
    `cost_usd`: of all replies to this question, those read from the ledger included."""

    result: Reading | Unreadable
    evidence: Evidence
    raw: str
    served: str = ""
    key: str | None = None
    cost_usd: float | None = None


async def ask(model: RecordedModel, question: Question, asking: Asking) -> Answer:
    """Asks until a reply can be read or the asks are used up; never raises CallError."""
    evidence = best_evidence(model.capabilities) if asking.evidence == "auto" else asking.evidence
    request = question.request(evidence, asking)
    answer = Answer(Unreadable("api_error"), evidence, "", cost_usd=model.usage.cost(0, 0))
    for _ in range(asking.asks):
        try:
            reply = await model.complete(request)
        except CallError as error:
            return replace(answer, result=Unreadable(error.status), raw=str(error))
        if evidence == "logprobs" and _has_none(reply.completions[0]):
            model.capabilities.learn_missing("logprobs", "the reply held no log-probabilities of its answer")
            if asking.evidence == "auto":
                return await ask(model, question, asking)
        raw = _raw(reply.completions)
        key = model.key(request, request.samples[0]).hex()
        cost = _sum(answer.cost_usd, _cost(model, reply.completions))
        answer = Answer(question.read(evidence, reply.completions), evidence, raw, reply.served, key, cost)
        if isinstance(answer.result, Reading):
            return answer
        request = _again(request, reply.completions[0])
    return answer


def _cost(model: RecordedModel, completions: tuple[Completion, ...]) -> float | None:
    tokens_in = sum(completion.input_tokens or 0 for completion in completions)
    return model.usage.cost(tokens_in, sum(completion.output_tokens or 0 for completion in completions))


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _has_none(completion: Completion) -> bool:
    """No log-probabilities, or a model that spends its few tokens on thinking."""
    return completion.label_logprobs is None or (
        not completion.text and completion.finish_reason == "length" and not completion.label_logprobs
    )


def _raw(completions: tuple[Completion, ...]) -> str:
    if len(completions) == 1:
        return completions[0].text
    return json.dumps([completion.text for completion in completions], ensure_ascii=False)


def _again(request: CompletionRequest, reply: Completion) -> CompletionRequest:
    """The next ask: further draws of the same question, told that the last reply could not be read."""
    nudge = (Message("assistant", reply.text or "(no answer)"), Message("user", _REASK.text))
    samples = tuple(sample + len(request.samples) for sample in request.samples)
    messages = request.messages[:1] + nudge
    return replace(request, messages=messages, samples=samples)

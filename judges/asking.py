"""One question to a judge model, through whatever evidence the model can give.

A reply that cannot be read is asked for once more (the only retry that belongs to the judge); the same
model error is retried by the engine and by nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar, get_args

from judges.evidence import (
    Evidence,
    Form,
    TwoWords,
    Unreadable,
    best_evidence,
    stopped,
)
from judges.prompting import REFERENCE, Template, shipped
from judges.voting import votes_wanted
from prefgen.completion import EVERY_DRAW, Completion, CompletionRequest, Reply, Sampling, Shared
from prefgen.errors import CallError, UnsupportedParameterError
from prefgen.messages import Json, Message, Messages, content_hash, user
from prefgen.recorded import RecordedModel

T = TypeVar("T")
_REASK = shipped("reask")
_RATIONALE = shipped("rationale")
_WORD_TOKENS = 4
# What is filled in before a call of the run, of the prompt and of the response differs from the others.
_OF_RUN = {"principles", "principle"}
_OF_PROMPT = _OF_RUN | {"fence", "prompt", "reference"}
_OF_RESPONSE = _OF_PROMPT - {"principle"} | {"response"}


def wordings(kind: str, evidences: tuple[Evidence, ...] = get_args(Evidence)) -> dict[Evidence, Template]:
    """The shipped question of a kind of judge, for each evidence."""
    return {evidence: shipped(f"{kind}_{evidence}") for evidence in evidences}


@dataclass(frozen=True, slots=True)
class Asking:
    """How a judge asks. `evidence` auto takes the best the model gives. `votes`: written verdicts per
    question where votes are the evidence; with `adaptive` no more of them than the question needs.
    `attempt`: how often the run was resumed after it had finished; each resumption grants what failed two
    further asks. `reference`: column of the prompts that holds a reference answer.

    `reasoning`: a written rationale before the word whose log-probabilities are read (Lee et al. 2023,
    arXiv 2309.00267, section 2.1); the other evidence reasons in its reply anyway. After a rationale the
    probabilities lie near 0 and 1. Bai et al. (2022, arXiv 2212.08073) clamp them to 40-60%; here nothing
    is clamped, calibration on human labels is what brings them back.
    """

    evidence: Evidence | Literal["auto"] = "auto"
    votes: int = 1
    max_tokens: int = 1024
    seed: int = 0
    attempt: int = 0
    reasoning: bool = False
    adaptive: bool = False
    reference: str | None = None

    @property
    def asks(self) -> int:
        return 2 * (1 + self.attempt)


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A template with everything filled in but `{{question}}`, its wording for each evidence, and the form
    of its answer. `beside`: how many questions are put about the same prompt; `principles`: how many about
    the same response."""

    body: Template
    values: Mapping[str, str]
    wordings: Mapping[Evidence, Template]
    form: Form[T]
    beside: int = 1
    principles: int = 1

    def messages(self, question: Template) -> Messages:
        return user(self.body.fill({**self.values, "question": question.text}))

    def request(self, evidence: Evidence, asking: Asking) -> CompletionRequest:
        messages, shared = self.messages(self.wordings[evidence]), self._shared()
        written = Sampling(max_tokens=asking.max_tokens, temperature=0.0)
        match evidence:
            case "logprobs":
                word = Sampling(max_tokens=_WORD_TOKENS, temperature=0.0)
                words = self.form.words
                return CompletionRequest(messages, word, label_words=words, choices=words, shared=shared)
            case "score":
                return CompletionRequest(messages, written, schema=self._schema(), shared=shared)
            case "votes":
                temperature = 0.0 if asking.votes == 1 else 1.0
                drawn = replace(written, temperature=temperature, seed=asking.seed)
                samples = tuple(range(asking.votes))
                whole = Shared(0, len(messages[0].content), asking.votes)
                shared = (*(replace(mark, draws=mark.draws * asking.votes) for mark in shared), whole)
                return CompletionRequest(messages, drawn, samples, shared=shared)

    def _shared(self) -> tuple[Shared, ...]:
        """The beginnings that other questions have too."""
        levels = ((_OF_RUN, EVERY_DRAW), (_OF_PROMPT, self.beside), (_OF_RESPONSE, self.principles))
        marks = (Shared(0, self.body.beginning(self.values, names), draws) for names, draws in levels)
        return tuple(sorted(marks, key=lambda mark: mark.end))

    def _schema(self) -> dict[str, Json]:
        """Reasoning first: a verdict written before its reasons is not helped by them."""
        return {
            "type": "object",
            "properties": {"reason": {"type": "string"}, self.form.field: {"type": self.form.type}},
            "required": ["reason", self.form.field],
            "additionalProperties": False,
        }

    def thinking(self, asking: Asking, sample: int) -> CompletionRequest:
        """For the rationale before the word; greedy, cut where the tokens end, as in the paper."""
        greedy = Sampling(asking.max_tokens, temperature=0.0)
        return CompletionRequest(self.messages(_RATIONALE), greedy, (sample,), shared=self._shared())

    def after(self, request: CompletionRequest, rationale: str) -> CompletionRequest:
        """The request, put after the judge's own rationale."""
        asked = Message("user", self.wordings["logprobs"].text)
        thought = Message("assistant", rationale)
        return replace(request, messages=(*self.messages(_RATIONALE), thought, asked))

    def template(self, evidence: Evidence, asking: Asking) -> str:
        """Hash of the texts around what is judged."""
        texts: list[Json] = [self.body.text, self.wordings[evidence].text]
        if asking.reasoning and evidence == "logprobs":
            texts.append(_RATIONALE.text)
        if asking.reference is not None:
            texts.append(REFERENCE.text)
        return content_hash(texts)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """`result`: the reading, or why there is none. `template`: hash of the question's texts. `key`: ledger
    key of the (first) reply. `cost_usd`: of all replies to this question, those read from the ledger
    included. `raw`: the reply, or a JSON list where there are several."""

    result: T | Unreadable
    evidence: Evidence
    raw: str
    template: str = ""
    served: str = ""
    key: str | None = None
    cost_usd: float | None = None


async def ask(model: RecordedModel, question: Question[T], asking: Asking) -> Answer[T]:
    """Asks until a reply can be read or the asks are used up; never raises CallError."""
    evidence = asking.evidence
    if evidence == "auto":
        evidence = best_evidence(model.capabilities, bool(question.form.words))
    talk = _Talk(model, question, asking, evidence, model.usage.cost_of(()))
    try:
        answer = await talk.answer()
    except CallError as error:
        # A model asked through batches refuses, unpaid, what it has learnt to lack while this waited.
        if (
            isinstance(error, UnsupportedParameterError)
            and asking.evidence == "auto"
            and evidence == "logprobs"
        ):
            return await ask(model, question, asking)
        return talk.told(Unreadable(error.status), str(error))
    if talk.in_vain:
        instead = await ask(model, question, asking)
        return replace(instead, cost_usd=_sum(answer.cost_usd, instead.cost_usd))
    return answer


@dataclass(slots=True)
class _Talk(Generic[T]):
    """One question under way. `cost` grows with every reply, so that a failure knows it too. `in_vain`:
    the model gives no log-probabilities, and the judge may take other evidence."""

    model: RecordedModel
    question: Question[T]
    asking: Asking
    evidence: Evidence
    cost: float | None
    in_vain: bool = False

    def told(self, result: T | Unreadable, raw: str, served: str = "", key: str | None = None) -> Answer[T]:
        template = self.question.template(self.evidence, self.asking)
        return Answer(result, self.evidence, raw, template, served, key, self.cost)

    async def answer(self) -> Answer[T]:
        request = self.question.request(self.evidence, self.asking)
        thought: tuple[Completion, ...] = ()
        if self.asking.reasoning and self.evidence == "logprobs":
            thought = await self._think()
            if not _says_something(thought[0]):
                return self.told(stopped(thought[0]) or Unreadable("parse_failure"), thought[0].text)
            request = self.question.after(request, thought[0].text)
        return await self._until_read(request, thought)

    async def _think(self) -> tuple[Completion, ...]:
        """The rationale. One that says nothing is asked for again, as often as an answer would be."""
        for sample in range(self.asking.asks):
            reply = await self._complete(self.question.thinking(self.asking, sample))
            if _says_something(reply.completions[0]):
                break
        return reply.completions

    async def _until_read(self, request: CompletionRequest, thought: tuple[Completion, ...]) -> Answer[T]:
        asked = request
        for number in range(1, 1 + self.asking.asks):
            reply = await self._draw(asked)
            result = self.question.form.read(self.evidence, reply.completions)
            key = self.model.key(asked, asked.samples[0]).hex()
            answer = self.told(result, _raw(thought + reply.completions), reply.served, key)
            if self.evidence == "logprobs" and _has_none(reply.completions[0]):
                self._learn_that_none_come()
            if self.in_vain or not isinstance(result, Unreadable):
                break
            asked = _again(request, reply.completions[0], number)
        return answer

    async def _draw(self, request: CompletionRequest) -> Reply:
        """All that the request asks for; of adaptive votes no more than the question needs."""
        form = self.question.form
        if not (self.asking.adaptive and self.evidence == "votes" and isinstance(form, TwoWords)):
            return await self._complete(request)
        drawn: tuple[Completion, ...] = ()
        served = ""
        while wanted := votes_wanted(form.votes(drawn), len(request.samples)):
            samples = request.samples[len(drawn) : len(drawn) + wanted]
            reply = await self._complete(replace(request, samples=samples))
            drawn, served = drawn + reply.completions, reply.served
        return Reply(drawn, served)

    async def _complete(self, request: CompletionRequest) -> Reply:
        reply = await self.model.complete(request)
        self.cost = _sum(self.cost, self.model.usage.cost_of(reply.completions))
        return reply

    def _learn_that_none_come(self) -> None:
        words = "the reply held no log-probabilities of its answer"
        self.model.capabilities.learn_missing("logprobs", words)
        self.in_vain = self.asking.evidence == "auto"


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _says_something(completion: Completion) -> bool:
    return bool(completion.text.strip()) and completion.finish_reason != "refusal"


def _has_none(completion: Completion) -> bool:
    """No log-probabilities, or a model that spends its few tokens on thinking."""
    return completion.label_logprobs is None or (
        not completion.text and completion.finish_reason == "length" and not completion.label_logprobs
    )


def _raw(completions: tuple[Completion, ...]) -> str:
    if len(completions) == 1:
        return completions[0].text
    return json.dumps([completion.text for completion in completions], ensure_ascii=False)


def _again(request: CompletionRequest, reply: Completion, number: int) -> CompletionRequest:
    """The next ask: further draws of the same question, told that the last reply could not be read."""
    nudge = (Message("assistant", reply.text or "(no answer)"), Message("user", _REASK.text))
    samples = tuple(sample + number * len(request.samples) for sample in request.samples)
    return replace(request, messages=request.messages + nudge, samples=samples)

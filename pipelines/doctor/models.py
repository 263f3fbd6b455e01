"""Models asked a few small questions: do they answer, how fast, and what can they do?

A question costs a few dozen tokens. Nothing is read from the user's ledger, so that every answer is a new
one, and nothing is written to it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from pipelines.doctor.check import Check
from pipelines.generate_config import JudgingConfig
from pipelines.judging import make_judge
from pipelines.roles import Roles
from prefgen.candidate import Candidate
from prefgen.completion import Completion, CompletionRequest, Sampling
from prefgen.errors import CallError, PrefgenError
from prefgen.judgment import JudgeFailure, Judgment
from prefgen.messages import Json, Message, Messages, user
from prefgen.models import LOCAL_PROVIDERS, ModelSpec
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel

_ASKED: Messages = (
    Message("system", "Answer in one short sentence."),
    Message("user", "Which month comes after March?"),
)
_LABELLED = user("Which number is larger? A: 5. B: 3. Answer with one letter, A or B.")
_AS_JSON = user('Which month comes after March? Answer with JSON: {"month": NAME}')
_SCHEMA: Mapping[str, Json] = {
    "type": "object",
    "properties": {"month": {"type": "string"}},
    "required": ["month"],
    "additionalProperties": False,
}
_QUESTION = user("What is the capital of France?")
_GOOD = "The capital of France is Paris, a city on the river Seine."
_BAD = "I do not know."
_ABILITIES = {
    "logprobs": "log-probabilities",
    "temperature": "temperature",
    "n": "several draws a call",
    "seed": "seed",
    "system_role": "system role",
    "structured_output": "structured output",
}


@dataclass(slots=True)
class Answered:
    """`lacks`: fields of `Capabilities` that the model turned out not to have."""

    seconds: float
    completions: Sequence[Completion]
    served: str
    lacks: set[str] = field(default_factory=set)

    @property
    def tokens_per_second(self) -> float | None:
        tokens = [item.output_tokens for item in self.completions if item.output_tokens is not None]
        return sum(tokens) / max(self.seconds, 1e-6) if tokens else None


async def check_model(spec: str, roles: Roles) -> AsyncIterator[Check]:
    """Whether it answers and what it can do, what it costs, and what a local one's chat template does."""
    try:
        start = time.monotonic()
        model = await roles.model(spec)
        started = time.monotonic() - start
        answered = await _ask(model)
    except PrefgenError as error:
        yield failed(spec, spec, error)
        return
    yield _told(spec, started, answered)
    yield _price(spec, roles)
    parsed = ModelSpec.parse(spec)
    if parsed.provider in ("vllm", "transformers"):
        yield await asyncio.to_thread(_template, spec, parsed.name)


async def _ask(model: RecordedModel) -> Answered:
    sampling = Sampling(max_tokens=64, temperature=0.7, seed=0)
    start = time.monotonic()
    reply = await model.complete(CompletionRequest(_ASKED, sampling, samples=(0, 1)))
    answered = Answered(time.monotonic() - start, reply.completions, reply.served)
    if not await _gives_logprobs(model):
        answered.lacks.add("logprobs")
    if not await _keeps_schema(model):
        answered.lacks.add("structured_output")
    answered.lacks |= {name for name in _ABILITIES if model.capabilities.lacks(name)}
    return answered


async def _gives_logprobs(model: RecordedModel) -> bool:
    words = ("A", "B")  # Asked as judges ask.
    word = Sampling(max_tokens=16, temperature=0.0)
    request = CompletionRequest(_LABELLED, word, label_words=words, choices=words)
    try:
        reply = await model.complete(request)
    except CallError:
        return False
    return bool(reply.completions[0].label_logprobs)


async def _keeps_schema(model: RecordedModel) -> bool:
    request = CompletionRequest(_AS_JSON, Sampling(max_tokens=64), schema=_SCHEMA)
    try:
        reply = await model.complete(request)
        told = json.loads(reply.completions[0].text)
    except CallError:
        return False
    except ValueError:
        # Cut by the token limit, it may still have kept to the form.
        return reply.completions[0].finish_reason == "length" and reply.completions[0].text.startswith("{")
    return isinstance(told, dict) and isinstance(told.get("month"), str)


def failed(name: str, spec: str, error: PrefgenError) -> Check:
    found, _, fix = str(error).removeprefix(f"{spec}: ").partition("\n")
    return Check(name, "problem", found, fix.strip().removeprefix("fix: ") or None)


def _told(spec: str, started: float, answered: Answered) -> Check:
    rate = answered.tokens_per_second
    details: dict[str, Json] = {
        "served": answered.served,
        "start_seconds": round(started, 3),
        "seconds": round(answered.seconds, 3),
        "tokens_per_second": None if rate is None else round(rate, 1),
        **{name: name not in answered.lacks for name in _ABILITIES},
    }
    speed = "" if rate is None else f", {rate:.0f} tokens/s"
    local = ModelSpec.parse(spec).provider in LOCAL_PROVIDERS
    begun = f"started in {started:.1f} s; " if local and started >= 0.1 else ""
    if not any(item.text.strip() for item in answered.completions):
        ends = {item.finish_reason for item in answered.completions}
        hint = "raise --max-tokens where it thinks before it answers" if ends == {"length"} else None
        return Check(spec, "note", f"{begun}its answers are empty ({', '.join(sorted(ends))})", hint, details)
    can = ", ".join(text for name, text in _ABILITIES.items() if name not in answered.lacks)
    cannot = ", ".join(text for name, text in _ABILITIES.items() if name in answered.lacks)
    found = f"{begun}answers as {answered.served} in {answered.seconds:.2f} s{speed}; can: {can or 'write'}"
    return Check(spec, "ok", found + (f"; cannot: {cannot}" if cannot else ""), None, details)


def _price(spec: str, roles: Roles) -> Check:
    price, name = roles.price(spec), f"price of {spec}"
    if price is None:
        return Check(name, "note", "not known, so cost is not told", f"--price {spec}=IN,OUT")
    if price.free:
        return Check(name, "ok", "none, it runs here")
    dated = f", as of {price.as_of}: check it" if price.as_of else ""
    shown = f"${price.input:g} in, ${price.output:g} out per million tokens{dated}"
    return Check(name, "ok", shown, None, {"input": price.input, "output": price.output})


def _template(spec: str, path: str) -> Check:
    """By what training looks at: turns that are lost, end tokens, begin tokens."""
    from trainers.loading import end_tokens, load_tokenizer
    from trainers.preflight import check_rows, explain
    from trainers.rows import Row

    name = f"chat template of {spec}"
    system, asked = _ASKED
    said = ((Message("assistant", "April."),),)
    try:
        tokenizer = load_tokenizer(path)
        if not tokenizer.chat_template:
            raise PrefgenError(
                "the tokenizer has none; use a chat model, or save a chat_template.jinja there"
            )
        ends = end_tokens(path, tokenizer)
        faults = explain(
            check_rows([Row(Path(path), 1, (asked,), said)], tokenizer, 1024, ends, True), tokenizer
        )
    except PrefgenError as error:
        return Check(name, "problem", str(error).replace("\n", " "))
    try:
        rows = [Row(Path(path), 1, (system, asked), said)]
        lost = bool(check_rows(rows, tokenizer, 1024, ends, True).lost["system"])
    except PrefgenError:
        lost = True
    if lost:
        faults.append("it takes no system turn: system text goes to the head of the user's turn")
    if faults:
        return Check(name, "note", "; ".join(fault.removeprefix("1 of 1 rows: the ") for fault in faults))
    return Check(name, "ok", "keeps all turns, ends the assistant's with the model's end token")


async def check_judge(spec: str, roles: Roles, config: JudgingConfig) -> Check:
    """Whether it gives a verdict that can be read, in both orders, on a pair that nobody gets wrong."""
    prompt = Prompt("doctor", _QUESTION)
    good, bad = (Candidate(prompt.id, text, "doctor", place) for place, text in enumerate((_GOOD, _BAD)))
    name = f"judge {spec}"
    try:
        judge = await make_judge(config, roles)
        start = time.monotonic()
        results = await judge.judge(prompt, [good, bad])
        seconds = time.monotonic() - start
    except PrefgenError as error:
        return failed(name, spec, error)
    failures = [result for result in results if isinstance(result, JudgeFailure)]
    if failures:
        first = failures[0]
        told = " ".join(first.raw.removeprefix(f"{spec}: ").split())[:160] or "(nothing)"
        found = f"{len(failures)} of {len(results)} verdicts cannot be used ({first.status}): {told}"
        return Check(name, "problem", found, _REMEDIES.get(first.status))
    odds = [result.log_odds for result in results if isinstance(result, Judgment)]
    evidence = results[0].provenance.evidence or "unknown"
    found = f"verdict by {_EVIDENCE.get(evidence, evidence)} in {seconds:.2f} s"
    details: dict[str, Json] = {"evidence": evidence, "log_odds": [round(value, 3) for value in odds]}
    if fmean(odds) <= 0:
        wrong = f"{found}, for 'I do not know' over the right answer"
        return Check(name, "note", wrong, "hold it against human labels first: prefgen calibrate", details)
    if min(odds) <= 0:
        found += "; in one order for the worse reply, so ask it in both (the default)"
        return Check(name, "note", found, None, details)
    return Check(name, "ok", f"{found}, right in both orders", None, details)


_REMEDIES = {
    "truncated": "a higher --judge-max-tokens, or a judge that says less before its verdict",
    "parse_failure": "another judge: this one does not keep to the form it is asked for",
    "refusal": "another judge: this one refuses a harmless question",
    "timeout": "a higher --deadline, or a faster server",
}
_EVIDENCE = {"logprobs": "log-probabilities", "score": "a stated probability", "votes": "votes"}


async def check_reward_model(spec: str, roles: Roles) -> Check:
    name = f"reward model {spec}"
    try:
        model = await roles.reward_model(spec)
        start = time.monotonic()
        good, bad = [await model.score(_QUESTION, text) for text in (_GOOD, _BAD)]
        seconds = (time.monotonic() - start) / 2
    except PrefgenError as error:
        return failed(name, spec, error)
    found = f"scores in {seconds:.2f} s; right answer {good:.3g}, 'I do not know' {bad:.3g}"
    details: dict[str, Json] = {"good": good, "bad": bad, "seconds": round(seconds, 3)}
    if good <= bad:
        return Check(name, "note", found, "hold it against human labels first: prefgen calibrate", details)
    return Check(name, "ok", found, None, details)

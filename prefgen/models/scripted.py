"""The shipped fake: a model whose answers are a function, for tests and dry runs.

`ScriptedModel(answer)` takes any function of (request, sample) that returns a text, a `Completion`,
or an exception to raise. Three come by name: `scripted/writer` writes replies of known, mixed quality,
`scripted/judge` prefers the reply with more distinct words and leans to what it is shown first, as
real judges do, `scripted/hasty` does the same but counts badly.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from string import ascii_uppercase
from typing import TypeAlias

from prefgen.completion import Capabilities, Completion, CompletionRequest, Reply
from prefgen.errors import UsageError
from prefgen.messages import Json

Answer: TypeAlias = str | Completion | Exception
_OPENED = re.compile(r"<(response(?:_[A-Z])?-\w+)>\n")
_ANNOUNCED = re.compile(r"tags that end in (\w+)")
_LEVEL = re.compile(r"^(\d): ", re.MULTILINE)
_SLOT_BIAS = 0.5
_TOPICS = ("plan", "cost", "risk", "time", "people", "tools", "limits", "tests", "goals", "checks")


class ScriptedModel:
    """A `Model` that answers from `answer(request, sample)`; `calls` holds the last thousand requests."""

    def __init__(
        self,
        answer: Callable[[CompletionRequest, int], Answer],
        spec: str = "scripted/test",
        latency: float = 0.0,
        capabilities: Capabilities | None = None,
    ) -> None:
        self._answer, self._latency = answer, latency
        self.spec = self.identity = spec
        self.capabilities = capabilities or Capabilities(logprobs=True, structured_output=True, n=True)
        self.calls: deque[CompletionRequest] = deque(maxlen=1000)

    async def complete(self, request: CompletionRequest) -> Reply:
        self.calls.append(request)
        await asyncio.sleep(self._latency)
        completions = tuple(self._one(request, sample) for sample in request.samples)
        first, *rest = completions
        if first.input_tokens is None:
            first = replace(first, input_tokens=sum(len(m.content.split()) for m in request.messages))
        return Reply((first, *(replace(other, input_tokens=0) for other in rest)), self.spec)

    def _one(self, request: CompletionRequest, sample: int) -> Completion:
        answer = self._answer(request, sample)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            answer = Completion(answer)
        if answer.output_tokens is None:
            answer = replace(answer, output_tokens=len(answer.text.split()))
        return answer

    async def aclose(self) -> None:
        pass


def open_scripted(name: str, options: Mapping[str, Json] | None = None) -> ScriptedModel:
    """A script by name; the option `latency` is the seconds each call takes."""
    answers: dict[str, Callable[[CompletionRequest, int], Answer]] = {
        "writer": _write,
        "judge": _judge,
        "hasty": partial(_judge, rich=_miscounted),
    }
    if name not in answers:
        known = ", ".join(f"scripted/{name}" for name in answers)
        raise UsageError(f"scripted/{name}: no such script; there are {known}")
    unknown = set(options or {}) - {"latency"}
    if unknown:
        raise UsageError(f"scripted/{name}: unknown option {min(unknown)!r}; the only one is latency")
    latency = (options or {}).get("latency", 0.0)
    if isinstance(latency, bool) or not isinstance(latency, int | float):
        raise UsageError(f"scripted/{name}: latency is in seconds, not {latency!r}")
    return ScriptedModel(answers[name], f"scripted/{name}", float(latency))


def _write(request: CompletionRequest, sample: int) -> str:
    """A reply of 1 to 10 points; how many depends on prompt and sample alone."""
    prompt = request.messages[-1].content
    seed = request.sampling.seed or 0
    digest = hashlib.sha256(f"{prompt}\0{seed + sample}".encode()).digest()
    topics = sorted(_TOPICS, key=lambda topic: hashlib.sha256(digest + topic.encode()).digest())
    return "Consider: " + ", ".join(topics[: 1 + digest[0] % len(_TOPICS)]) + "."


def _rich(text: str) -> int:
    return len(set(text.lower().split()))


def _miscounted(text: str) -> int:
    """Off by up to four, always in the same way for the same text."""
    return _rich(text) + hashlib.sha256(text.encode()).digest()[0] % 9 - 4


def _judge(request: CompletionRequest, sample: int, rich: Callable[[str], int] = _rich) -> Completion:
    """The same opinion in whatever form it is asked for: log-probabilities, a score, a ranking or a verdict
    line; what says more is better."""
    question = request.messages[0].content
    richness = [rich(text) for text in _shown(question)]
    asked = question.rpartition("\n</")[2] if richness else question
    richness = richness or [rich(question)]  # A question about no response: about itself.
    levels = [int(digit) for digit in request.label_words or _LEVEL.findall(asked) if digit.isdecimal()]
    fields = request.schema["properties"] if request.schema else None
    if levels:
        return _rate(request, levels, richness[0])
    if "Ranking:" in asked or '"ranking"' in asked:
        return _rank(request, richness)
    if not (request.label_words or fields or "Verdict:" in asked):
        return Completion("It says more.")
    odds = richness[0] - richness[1] + _SLOT_BIAS if len(richness) == 2 else richness[0] - 5.0
    words = request.label_words or (("A", "B") if len(richness) == 2 else ("yes", "no"))
    winner = words[0] if odds > 0 else words[1]
    if request.label_words:
        first, second = -math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))
        return Completion(winner, label_logprobs={words[0]: first, words[1]: second})
    if fields:
        percent = round(100 / (1 + math.exp(-odds)), 1)
        return Completion(json.dumps({"reason": "It says more.", f"percent_{words[0].lower()}": percent}))
    return Completion(f"It says more.\nVerdict: {winner}")


def _rate(request: CompletionRequest, levels: list[int], richness: int) -> Completion:
    """A level that grows with the distinct words, half way up the scale at five."""
    low, high = min(levels), max(levels)
    aim = low + (high - low) / (1 + math.exp((5 - richness) / 2))
    if request.label_words:
        weights = {level: math.exp(-2 * (level - aim) ** 2) for level in levels}
        logprobs = {str(level): math.log(weights[level] / sum(weights.values())) for level in levels}
        return Completion(max(logprobs, key=lambda level: logprobs[level]), label_logprobs=logprobs)
    if request.schema:
        return Completion(json.dumps({"reason": "It says enough.", "score": round(aim, 2)}))
    return Completion(f"It says enough.\nVerdict: {min(levels, key=lambda level: abs(level - aim))}")


def _rank(request: CompletionRequest, richness: list[int]) -> Completion:
    """By distinct words; what is shown first wins a draw."""
    order = sorted(range(len(richness)), key=lambda place: -richness[place])
    ranking = " > ".join(ascii_uppercase[place] for place in order)
    if request.schema:
        return Completion(json.dumps({"reason": "By what they say.", "ranking": ranking}))
    return Completion(f"By what they say.\nRanking: {ranking}")


def _shown(question: str) -> list[str]:
    """The responses a judge is shown. Tags with another ending than the announced one are their text."""
    announced = _ANNOUNCED.search(question)
    found, after = [], 0
    for opened in _OPENED.finditer(question):
        if opened.start() < after or (announced and not opened[1].endswith(announced[1])):
            continue
        end = question.find(f"\n</{opened[1]}>", opened.end())
        if end >= 0:
            found.append(question[opened.end() : end])
            after = end
    return found

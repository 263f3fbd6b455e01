"""From what a judge wrote to log-odds, for each kind of evidence.

    logprobs   the model's own probabilities of the two answer words, read at the first answer token
    score      a stated probability in a JSON object whose reasoning comes first
    votes      k written verdicts; log-odds by Jeffreys' rule, log((k1 + .5) / (k2 + .5)), a tie half to each

Best first: a judge takes the first its model can give. The whole reply is validated before it becomes
a number, and of several verdicts in a text the last one counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prefgen.completion import Capabilities, Completion
from prefgen.judgment import FailureStatus, logit
from prefgen.messages import Json

Evidence = Literal["logprobs", "score", "votes"]
MIN_COVERAGE = 0.5
_SURE = 0.99
_FLOOR = 1e-6
_SLACK = 0.01
_VERDICT = re.compile(r"^[^\w\n]*(?:\w+[^\w\n:]+)?verdict[^\w\n:]*:", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"\W*(\w+)[^\w\n]*(?:\n|$)")


@dataclass(frozen=True, slots=True)
class Reading:
    """`log_odds` of the first answer word over the second. `coverage`: probability mass on the two."""

    log_odds: float
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    status: FailureStatus


def best_evidence(capabilities: Capabilities) -> Evidence:
    if not capabilities.lacks("logprobs"):
        return "logprobs"
    return "votes" if capabilities.lacks("structured_output") else "score"


def read_logprobs(completion: Completion, words: tuple[str, str]) -> Reading | Unreadable:
    """log P(first) - log P(second). Unreadable where the two words hold less than half of the mass.

    A word that the provider did not return lies below those it did: it gets the mass that is left.
    """
    logprobs = completion.label_logprobs or {}
    if any(not value <= _SLACK for value in logprobs.values()):  # Also where it is not a number at all.
        return Unreadable("parse_failure")
    known = {word: logprobs[word] for word in words if word in logprobs}
    coverage = sum(math.exp(value) for value in known.values())
    if coverage < MIN_COVERAGE:
        return Unreadable("refusal" if completion.finish_reason == "refusal" else "parse_failure")
    left = math.log(max(_FLOOR, 1 - coverage))
    first, second = (max(known.get(word, left), math.log(_FLOOR)) for word in words)
    return Reading(first - second, min(coverage, 1.0))


def read_score(completion: Completion, field: str) -> Reading | Unreadable:
    """The stated percentage as log-odds, kept within 1..99%: nobody's certainty is infinite."""
    stopped = _stopped(completion)
    if stopped is not None:
        return stopped
    value = _last_object(completion.text)
    percent = value.get(field) if value is not None else None
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        return Unreadable("parse_failure")
    return Reading(logit(min(_SURE, max(1 - _SURE, percent / 100))))


def read_votes(completions: Sequence[Completion], words: tuple[str, str]) -> Reading | Unreadable:
    """Jeffreys' log-odds over the readable votes; unreadable unless more than half of them are."""
    votes = [read_vote(completion, words) for completion in completions]
    counted = [vote for vote in votes if isinstance(vote, float)]
    if 2 * len(counted) <= len(votes):
        return next(vote for vote in votes if isinstance(vote, Unreadable))
    first = sum(counted)
    return Reading(math.log((first + 0.5) / (len(counted) - first + 0.5)))


def read_vote(completion: Completion, words: tuple[str, str]) -> float | Unreadable:
    """1 for the first word, 0 for the second, a half for a tie, from the last `Verdict:` line."""
    stopped = _stopped(completion)
    if stopped is not None:
        return stopped
    lines = list(_VERDICT.finditer(completion.text))
    # A last verdict that cannot be read is no reason to believe an earlier one, which may be a quotation.
    word = _WORD.match(completion.text, lines[-1].end()) if lines else None
    worth = {words[0].lower(): 1.0, words[1].lower(): 0.0, "tie": 0.5}
    return worth.get(word[1].lower(), Unreadable("parse_failure")) if word else Unreadable("parse_failure")


def _stopped(completion: Completion) -> Unreadable | None:
    match completion.finish_reason:
        case "length":
            return Unreadable("truncated")
        case "refusal":
            return Unreadable("refusal")
        case _:
            return None


def _last_object(text: str) -> dict[str, Json] | None:
    """The last JSON object that starts somewhere in `text` and ends with it, code fences aside."""
    text = text.strip().removesuffix("```").rstrip()
    for start in range(len(text) - 1, -1, -1):
        if text[start] != "{":
            continue
        try:
            value = json.loads(text[start:])
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None

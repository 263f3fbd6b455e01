"""From what a judge wrote to log-odds, for each kind of evidence.

    logprobs   the model's own probabilities of the two answer words, read at the first answer token
    score      a stated probability in a JSON object whose reasoning comes first
    votes      k written verdicts; log-odds by Jeffreys' rule, log((k1 + .5) / (k2 + .5)), a tie half to each

Best first: a judge takes the first its model can give. The whole reply is validated before it becomes
a number, and of several verdicts in a text the last one counts. What a reply may hold is a `Form`; the form
of a question with two answers is here, the others are with their judges.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from prefgen.completion import Capabilities, Completion
from prefgen.judgment import FailureStatus, logit
from prefgen.messages import Json

Evidence = Literal["logprobs", "score", "votes"]
MIN_COVERAGE = 0.5
_SURE = 0.99
_FLOOR = 1e-6
_SLACK = 0.01
_STARTS = 1000  # Of objects that are tried: a reply of nothing but braces would take minutes.
_WORD = re.compile(r"\W*(\w+)[^\w\n]*(?:\n|$)")
R = TypeVar("R", covariant=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """`log_odds` of the first answer word over the second. `coverage`: probability mass on the two."""

    log_odds: float
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    status: FailureStatus


class Form(Protocol[R]):
    """What an answer looks like, and how it is read.

    `words`: the one-word answers whose log-probabilities are wanted; none where a word is no answer.
    `field`, `type`: the JSON field of a stated answer.
    """

    @property
    def words(self) -> tuple[str, ...]: ...

    @property
    def field(self) -> str: ...

    @property
    def type(self) -> Literal["number", "string"]: ...

    def read(self, evidence: Evidence, completions: Sequence[Completion]) -> R | Unreadable: ...


@dataclass(frozen=True, slots=True)
class TwoWords:
    """Two answers, the first being what log-odds are of. `field` holds the first one's percentage."""

    words: tuple[str, str]
    field: str
    type: Literal["number"] = "number"

    def read(self, evidence: Evidence, completions: Sequence[Completion]) -> Reading | Unreadable:
        match evidence:
            case "logprobs":
                return read_logprobs(completions[0], self.words)
            case "score":
                return read_score(completions[0], self.field)
            case "votes":
                return read_votes(completions, self.words)

    def votes(self, completions: Sequence[Completion]) -> list[float | None]:
        """1, 0 or .5 for each reply, None where it cannot be read."""
        votes = (read_vote(completion, self.words) for completion in completions)
        return [None if isinstance(vote, Unreadable) else vote for vote in votes]


def best_evidence(capabilities: Capabilities, words: bool = True) -> Evidence:
    """`words`: whether a word can be the answer."""
    if words and not capabilities.lacks("logprobs"):
        return "logprobs"
    return "votes" if capabilities.lacks("structured_output") else "score"


def read_mass(completion: Completion, words: Sequence[str]) -> dict[str, float] | Unreadable:
    """The probability of each word the provider returned. Unreadable where together they hold less than
    half of the mass."""
    logprobs = completion.label_logprobs or {}
    if any(not value <= _SLACK for value in logprobs.values()):  # Also where it is not a number at all.
        return Unreadable("parse_failure")
    mass = {word: math.exp(logprobs[word]) for word in words if word in logprobs}
    if sum(mass.values()) < MIN_COVERAGE:
        return Unreadable("refusal" if completion.finish_reason == "refusal" else "parse_failure")
    return mass


def read_logprobs(completion: Completion, words: tuple[str, str]) -> Reading | Unreadable:
    """log P(first) - log P(second). Unreadable where the two words hold less than half of the mass.

    A word that the provider did not return lies below those it did: it gets the mass that is left.
    """
    mass = read_mass(completion, words)
    if isinstance(mass, Unreadable):
        return mass
    coverage = sum(mass.values())
    first, second = (math.log(max(mass.get(word, 1 - coverage), _FLOOR)) for word in words)
    return Reading(first - second, min(coverage, 1.0))


def read_score(completion: Completion, field: str) -> Reading | Unreadable:
    """The stated percentage as log-odds, kept within 1..99%: nobody's certainty is infinite."""
    percent = read_number(completion, field, 0, 100)
    if isinstance(percent, Unreadable):
        return percent
    return Reading(logit(min(_SURE, max(1 - _SURE, percent / 100))))


def read_number(completion: Completion, field: str, low: float, high: float) -> float | Unreadable:
    """A number from `low` to `high` in a field of the JSON object that ends the reply."""
    value = read_field(completion, field)
    if isinstance(value, Unreadable):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return Unreadable("parse_failure")
    return float(value)


def read_field(completion: Completion, field: str) -> Json | Unreadable:
    """A field of the JSON object that ends the reply; None where there is none."""
    value = _last_object(completion.text)
    return stopped(completion) or (value or {}).get(field)


def read_votes(completions: Sequence[Completion], words: tuple[str, str]) -> Reading | Unreadable:
    """Jeffreys' log-odds over the readable votes; unreadable unless more than half of them are."""
    counted = readable([read_vote(completion, words) for completion in completions])
    return counted if isinstance(counted, Unreadable) else Reading(jeffreys(sum(counted), len(counted)))


def readable(votes: Sequence[T | Unreadable]) -> list[T] | Unreadable:
    """What was readable, if it is more than half; else why the first that was not could not be read."""
    counted = [vote for vote in votes if not isinstance(vote, Unreadable)]
    if 2 * len(counted) > len(votes):
        return counted
    return next(vote for vote in votes if isinstance(vote, Unreadable))


def jeffreys(first: float, n: int) -> float:
    """Log-odds from `first` of `n` votes under Jeffreys' prior; finite for every count."""
    return math.log((first + 0.5) / (n - first + 0.5))


def read_vote(completion: Completion, words: tuple[str, str]) -> float | Unreadable:
    """1 for the first word, 0 for the second, a half for a tie, from the last `Verdict:` line."""
    word = read_verdict(completion)
    if isinstance(word, Unreadable):
        return word
    worth = {words[0].lower(): 1.0, words[1].lower(): 0.0, "tie": 0.5}
    return worth.get(word, Unreadable("parse_failure"))


def read_verdict(completion: Completion) -> str | Unreadable:
    """The word of the last `Verdict:` line, in lower case, if it stands there alone."""
    rest = after_last("verdict", completion)
    if isinstance(rest, Unreadable):
        return rest
    word = _WORD.match(rest)
    return word[1].lower() if word else Unreadable("parse_failure")


def after_last(name: str, completion: Completion) -> str | Unreadable:
    """What follows the last line that begins with `name` and a colon.

    A last verdict that cannot be read is no reason to believe an earlier one, which may be a quotation.
    """
    pattern = rf"^[^\w\n]*(?:\w+[^\w\n:]+)?{name}[^\w\n:]*:"
    lines = list(re.finditer(pattern, completion.text, re.IGNORECASE | re.MULTILINE))
    cut = stopped(completion)
    if cut is not None or not lines:
        return cut or Unreadable("parse_failure")
    return completion.text[lines[-1].end() :]


def stopped(completion: Completion) -> Unreadable | None:
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
    start = len(text)
    for _ in range(_STARTS):
        start = text.rfind("{", 0, start)
        if start < 0:
            break
        try:
            value = json.loads(text[start:])
        except (ValueError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None

"""Rewards that are rules: what code can check of a response without asking a model.

A rule is spelt KIND:WHAT, for example `format:<think>.*</think>.*`, `accuracy:answer`, `length:20-60`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from prefgen.errors import UsageError
from prefgen.messages import Json
from trainers.rewards import Sample, Score

Rule: TypeAlias = Callable[[str, Mapping[str, Json]], float]
"""A completion and its prompt's other columns to a number from 0 to 1."""

_BOXED = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"[{}]")
_MARKED = re.compile(r"(?:\banswer\s*(?:is\s*)?:|####)[ \t*]*(\S[^\n]*)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?%?")
_RANGE = re.compile(r"(\d+)-(\d+)")


def parse_rule(text: str) -> tuple[str, Score]:
    """The kind of a rule and the rule. Raises UsageError."""
    kind, _, what = text.partition(":")
    makers = {"format": _format, "accuracy": _accuracy, "length": _length}
    if kind not in makers or not what:
        raise UsageError(
            f"--reward-function {text!r}: expected format:REGEX, accuracy:COLUMN or length:LOW-HIGH"
        )
    return kind, _as_score(makers[kind](what))


def column_of(text: str) -> str | None:
    """The column of the prompts that a rule reads."""
    kind, _, what = text.partition(":")
    return what if kind == "accuracy" else None


def _as_score(rule: Rule) -> Score:
    def score(samples: Sequence[Sample]) -> list[float | None]:
        return [rule(sample.completion, sample.columns) for sample in samples]

    return score


def _format(pattern: str) -> Rule:
    """1 where the whole completion matches, a dot standing for line breaks too; else 0."""
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise UsageError(f"--reward-function format:{pattern}: no regular expression ({error})") from error
    return lambda completion, columns: float(compiled.fullmatch(completion.strip()) is not None)


def _accuracy(column: str) -> Rule:
    """1 where the final answer is the one in the column, else 0."""
    return lambda completion, columns: float(
        same_answer(final_answer(completion), str(columns.get(column, "")))
    )


def _length(span: str) -> Rule:
    """1 from LOW to HIGH words; outside it falls off, by 1 / HIGH for each word, to 0."""
    found = _RANGE.fullmatch(span)
    if found is None or not int(found[1]) <= int(found[2]) > 0:
        raise UsageError(f"--reward-function length:{span}: expected LOW-HIGH in words, for example 20-60")
    low, high = int(found[1]), int(found[2])

    def rule(completion: str, columns: Mapping[str, Json]) -> float:
        words = len(completion.split())
        return max(0.0, 1 - max(low - words, words - high, 0) / high)

    return rule


def final_answer(text: str) -> str:
    r"""What a response gives as its answer, by the first of these that it has.

    The content of the last `\boxed{…}`; what follows the last `Answer:` (or `####`) on its line; the last
    number; all of it.
    """
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    marked = _MARKED.findall(text)
    if marked:
        return str(marked[-1])
    numbers = _NUMBER.findall(text)
    return str(numbers[-1]) if numbers else text


def _boxed(text: str) -> str | None:
    """Inside the braces that match, since answers hold braces of their own."""
    starts, opened = {match.end() for match in _BOXED.finditer(text)}, []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.end())
        elif opened and (start := opened.pop()) in starts:
            last = max(last or (start, brace.start()), (start, brace.start()))
    return text[last[0] : last[1]] if last else None


def same_answer(one: str, other: str) -> bool:
    """Numbers by value, all else as text without case, outer punctuation and doubled spaces.

    `1,000.0`, `$1000` and `1000` are one number, so are `1/2` and `0.5`; `50%` is the number 50. Units are
    text: `5 km` is not `5`.
    """
    left, right = _plain(one), _plain(other)
    numbers = _number(left), _number(right)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return bool(left) and left == right


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'`*$()")


def _number(text: str) -> Fraction | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Fraction(re.sub(r"[,$%\s]", "", text)) if "." not in text or "/" not in text else None
    except (ValueError, ZeroDivisionError):
        return None

"""Several responses to one prompt with a rating or a rank each, as public preference sets hold them.

UltraFeedback (arXiv 2310.01377): `completions`, each rated in four aspects; distilabel: `generations`
beside `ratings`; Nectar: `answers` with a rank. A rating always stands with its response, and where one of
them is no number the whole row is refused: moved up by one, ratings label the wrong response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Literal

from prefgen.messages import Json, Messages
from prefgen.numbers import as_number
from prefgen.transcript import parse_transcript

RateBy = Literal["aspects", "overall"]
PairBy = Literal["best-worst", "all"]
LISTS = (
    ("generations", "ratings"),
    ("responses", "ratings"),
    ("responses", "scores"),
    ("completions", "scores"),
)
"""Columns that stand side by side, a response and its rating at the same place."""


@dataclass(frozen=True, slots=True)
class Listed:
    """`values`: of each response, the higher the better; `ranked`: they are ranks turned round."""

    prompt: str | Messages
    responses: tuple[str, ...]
    values: tuple[float, ...]
    ranked: bool = False

    def pairs(self, by: PairBy, gap: float) -> list[tuple[str, str]]:
        """(better, worse), the widest apart first, `gap` apart at least; of equals the first is taken."""
        places = sorted(range(len(self.values)), key=lambda place: -self.values[place])
        if by == "best-worst":
            worst = min(places, key=lambda place: self.values[place])
            chosen = [(places[0], worst)]
        else:
            chosen = sorted(
                combinations(places, 2), key=lambda pair: self.values[pair[1]] - self.values[pair[0]]
            )
        apart = [(a, b) for a, b in chosen if 0 < self.values[a] - self.values[b] >= gap]
        return [(self.responses[a], self.responses[b]) for a, b in apart]


def list_columns(values: Mapping[str, Json]) -> tuple[str, str] | None:
    """The two columns that stand side by side, if the row has them."""
    return next((pair for pair in LISTS if pair[0] in values and pair[1] in values), None)


def read_listed(values: Mapping[str, Json], by: RateBy) -> Listed:
    """Raises ValueError with what is wrong, and with which response."""
    columns = list_columns(values)
    prompt = _prompt(values)
    if columns is not None:
        return _beside(prompt, columns, values)
    name = "answers" if "answers" in values else "completions"
    items = _list(name, values[name])
    responses, rated = [], []
    for number, item in enumerate(items, start=1):
        where = f"{name}, number {number}"
        if not isinstance(item, Mapping):
            raise ValueError(f"{where} is not an object: {item!r:.60}")
        responses.append(_text(where, item.get("answer" if name == "answers" else "response")))
        rated.append(
            -_number(f"{where}: rank", item.get("rank")) if name == "answers" else _rating(where, item, by)
        )
    return Listed(prompt, tuple(responses), tuple(rated), ranked=name == "answers")


def _beside(prompt: str | Messages, columns: tuple[str, str], values: Mapping[str, Json]) -> Listed:
    texts, ratings = (_list(name, values[name]) for name in columns)
    if len(texts) != len(ratings):
        raise ValueError(
            f"{len(texts)} {columns[0]} and {len(ratings)} {columns[1]}, so it cannot be said which is whose"
        )
    numbered = list(enumerate(zip(texts, ratings, strict=True), start=1))
    return Listed(
        prompt,
        tuple(_text(f"{columns[0]}, number {number}", text) for number, (text, _) in numbered),
        tuple(_number(f"{columns[1]}, number {number}", rating) for number, (_, rating) in numbered),
    )


def _rating(where: str, item: Mapping[str, Json], by: RateBy) -> float:
    """The mean of the aspects where there are any, else the overall score.

    In UltraFeedback some overall scores of 1 were read as 10 (github.com/argilla-io/notus, issue 7).
    """
    annotations = item.get("annotations")
    aspects = [
        _number(f"{where}: {name}", aspect.get("Rating"))
        for name, aspect in (annotations.items() if isinstance(annotations, Mapping) else ())
        if isinstance(aspect, Mapping)
    ]
    if by == "aspects" and aspects:
        return fmean(aspects)
    overall = _number(f"{where}: overall_score", item.get("overall_score"))
    if aspects and overall == 10 and fmean(aspects) <= 2:
        raise ValueError(
            f"{where}: overall_score is 10 and its aspects have a mean of {fmean(aspects):g}; in "
            "UltraFeedback some scores of 1 became 10"
        )
    return overall


def _prompt(values: Mapping[str, Json]) -> str | Messages:
    value = values.get("prompt", values.get("instruction"))
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"prompt (or instruction) is not text: {value!r:.60}")
    text = value.replace("\r\n", "\n")
    if text.lstrip("\n").startswith("Human:") and text.rstrip().endswith("\n\nAssistant:"):
        # A transcript up to where the answer begins: its last turn is empty.
        return parse_transcript(text)[:-1]
    return text


def _list(name: str, value: Json) -> Sequence[Json]:
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(f"{name} is not a list of two or more: {value!r:.60}")
    return value


def _text(where: str, value: Json) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not text: {value!r:.60}")
    return value.replace("\r\n", "\n")


def _number(where: str, value: Json) -> float:
    number = as_number(value)
    if number is None:
        raise ValueError(f"{where} is not a number: {value!r:.60}")
    return number

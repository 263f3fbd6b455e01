"""What people are asked: a pair, and which side of the page each response is shown on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from prefgen.judgment import Verdict, sigmoid
from prefgen.messages import Json, Messages, content_hash

Answer = Literal["a", "b", "tie", "skip"]
ADJUDICATOR = "adjudicator"
UNNAMED = "#"
"""Begins the name under which a label is kept whose file does not say who gave it."""
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Item:
    """`margin`: the judge's log-odds that a is better, None where no judge spoke. `confidence`: that its
    label is right, as a probability. `columns`: what else the file holds of the pair."""

    id: str
    prompt: Messages
    a: str
    b: str
    margin: float | None = None
    confidence: float | None = None
    columns: Mapping[str, Json] = field(default_factory=dict)

    @property
    def judged(self) -> Verdict | None:
        if self.margin is None:
            return None
        return "a" if self.margin > 0 else "b" if self.margin < 0 else "tie"

    @property
    def sure(self) -> float | None:
        """How sure the judge is, 0.5 to 1; None where it did not speak."""
        if self.confidence is None and self.margin is not None:
            return sigmoid(abs(self.margin))
        return self.confidence


def swapped(sides: str, annotator: str, item: str) -> bool:
    """Whether response b is shown to this annotator as A. The same each time they look. `sides`: of the
    store."""
    return int(content_hash([sides, "side", annotator, item]), 16) % 2 == 1


def other_side(answer: Answer, swap: bool) -> Answer:
    """From the page's A and B to the file's a and b, or back."""
    if not swap or answer not in ("a", "b"):
        return answer
    return cast(Answer, {"a": "b", "b": "a"}[answer])


def name_of(given: str) -> str:
    """An annotator's name as it is kept. Raises ValueError."""
    name = " ".join(given.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable() or name.startswith(UNNAMED):
        raise ValueError(
            f"a name has 1 to {_LONGEST_NAME} printable characters and no {UNNAMED} at its start"
        )
    return name

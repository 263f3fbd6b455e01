"""What the trainers' schemas of a row are made of. Each is strict, and stands in the module of its trainer.

Rules that go beyond types name what the trainer would do instead: drop the row, or train on something else,
without a word.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Turn(Strict):
    role: Literal["system", "user", "assistant"]
    content: str


class Reply(Strict):
    role: Literal["assistant"]
    content: str


Turns = Annotated[list[Turn], Field(min_length=1)]
OneReply = Annotated[list[Reply], Field(min_length=1, max_length=1)]


def differ(left: str, right: str) -> None:
    if left.strip() == right.strip():
        raise ValueError("chosen and rejected are the same text")

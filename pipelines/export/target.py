"""What a trainer takes: a schema, the way there and the way back, and how its training is started."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
from pydantic import BaseModel

from prefgen.messages import Json, Messages

Dataset = Literal["dpo", "kto", "reward", "prompts"]
Text: TypeAlias = str | Messages
Essence: TypeAlias = tuple[Text, tuple[str, ...], bool | str | None]
"""What must come back from an export: the prompt, its responses, and the label or the reference answer."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a run. `responses`: chosen and rejected, or the one completion, or none; `line` counts from 1.

    `prompt` is a string where the run's format is standard and the trainer takes strings.
    """

    line: int
    prompt: Text
    responses: tuple[str, ...] = ()
    label: bool | None = None
    margin: float | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    columns: Mapping[str, Json] = field(default_factory=dict)

    @property
    def essence(self) -> Essence:
        return self.prompt, self.responses, self.label if self.reference is None else self.reference


@dataclass(frozen=True, slots=True)
class Written:
    """What config and start lines are made from: `files` by split; `weights`: of KTO's two classes."""

    out: Path
    files: Mapping[str, str]
    weights: Mapping[str, float] = field(default_factory=dict)

    def path(self, split: str) -> str:
        """As a shell takes it."""
        return shlex.quote(str(self.out / self.files[split]))

    @property
    def folder(self) -> str:
        return shlex.quote(str(self.out))


def _nothing(written: Written) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of rows for one trainer.

    `schema`: what its loader and documentation ask; a row that does not pass is refused with the schema's
    reason. `shape` makes the row, `back` reads it. `config`: further files by name, with paths relative to
    them. `start`: lines to type. `takes_text`: plain strings too, as a run of the standard format has them.
    """

    read_from: str
    schema: type[BaseModel]
    shape: Callable[[Row], dict[str, Any]]
    back: Callable[[Mapping[str, Any]], Essence]
    start: Callable[[Written], list[str]]
    config: Callable[[Written], dict[str, str]] = _nothing
    notes: tuple[str, ...] = ()
    table: Callable[[bool, bool], pa.Schema] | None = None
    takes_text: bool = False

    @property
    def suffix(self) -> str:
        return ".parquet" if self.table else ".jsonl"

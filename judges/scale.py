"""A scale: levels with a text each, on which a judge rates a response."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefgen.errors import InputError
from prefgen.yamlfile import read_yaml, validation_message

DEFAULT = "five-levels"
# One digit each: the judge's probabilities are read at one token.
Level = Annotated[int, Field(ge=0, le=9, strict=True)]
Text = Annotated[str, Field(min_length=1)]


class Scale(BaseModel):
    """`levels`: what each score means, the highest being the best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    levels: dict[Level, Text] = Field(min_length=2)

    @property
    def scores(self) -> tuple[int, ...]:
        return tuple(sorted(self.levels))

    def as_list(self) -> str:
        """The levels as lines for a judge, the lowest first."""
        return "\n".join(f"{score}: {self.levels[score]}" for score in self.scores)


def load_scale(path: Path | None) -> Scale:
    """A YAML file with `id` and `levels`; None: the shipped scale. Raises InputError."""
    if path is None:
        text = (importlib.resources.files("judges") / "scales" / f"{DEFAULT}.yaml").read_text("utf-8")
        return Scale.model_validate(yaml.safe_load(text))
    if not path.exists():
        raise InputError(path, "no such scale", expected="a YAML file with id and levels")
    values = read_yaml(path)
    try:
        return Scale.model_validate(values)
    except ValidationError as error:
        raise validation_message(path, error, Scale) from error

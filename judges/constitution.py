"""A constitution: the principles a judge decides by, as versioned data."""

from __future__ import annotations

import difflib
import importlib.resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from prefgen.errors import InputError
from prefgen.messages import content_hash
from prefgen.yamlfile import read_yaml, validation_message

SHIPPED = ("helpful-honest-harmless", "support-tone", "concise-expert")


class Principle(BaseModel):
    """One principle. `weight`: its share relative to the others (they are normalised to sum to one)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    text: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Constitution(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str = ""
    principles: tuple[Principle, ...] = Field(min_length=1)

    @field_validator("principles")
    @classmethod
    def _unique(cls, principles: tuple[Principle, ...]) -> tuple[Principle, ...]:
        seen = [principle.id for principle in principles]
        twice = next((name for name in seen if seen.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the principle {twice!r} stands twice")
        return principles

    @property
    def hash(self) -> str:
        """Changes whenever a judge's decision could: ids, texts and weights, not the title."""
        return content_hash([[item.id, item.text, item.weight] for item in self.principles])

    @property
    def weights(self) -> dict[str, float]:
        """Share of each principle, by id; they sum to one."""
        total = sum(item.weight for item in self.principles)
        return {item.id: item.weight / total for item in self.principles}

    def as_list(self) -> str:
        """The principles as numbered lines for a judge."""
        return "\n".join(f"{number}. {item.text}" for number, item in enumerate(self.principles, start=1))


def load_constitution(name_or_path: str) -> Constitution:
    """A shipped constitution by name, or a YAML file. Raises InputError naming file, line and field."""
    if name_or_path in SHIPPED:
        shipped = importlib.resources.files("judges") / "constitutions" / f"{name_or_path}.yaml"
        return Constitution.model_validate(yaml.safe_load(shipped.read_text(encoding="utf-8")))
    path = Path(name_or_path)
    if not path.exists():
        near = difflib.get_close_matches(name_or_path, SHIPPED, n=1, cutoff=0.4)
        raise InputError(
            path,
            "no such constitution",
            expected=f"a YAML file, or one of {', '.join(SHIPPED)}",
            fix=f"did you mean {near[0]!r}?" if near else None,
        )
    values: dict[str, Any] = read_yaml(path)
    try:
        return Constitution.model_validate(values)
    except ValidationError as error:
        raise validation_message(path, error, Constitution) from error

"""One thing the doctor looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from prefgen.messages import Json

State: TypeAlias = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """`state`: note, where something is missing that was not asked for; problem, where what was asked for
    does not work. `fix`: what to do, where something is to be done. `details`: the same for a program."""

    name: str
    state: State
    found: str
    fix: str | None = None
    details: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "state": self.state,
            "found": self.found,
            "fix": self.fix,
            "details": dict(self.details),
        }

    @property
    def line(self) -> str:
        fix = f"\n{'':9}fix: {self.fix}" if self.fix else ""
        return f"{self.state:8} {self.name}: {self.found}{fix}"

"""How one constitution differs from another, principle by principle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from judges.constitution import Constitution, Principle


@dataclass(frozen=True, slots=True)
class Changes:
    """From `a` to `b`; principles are the same where their ids are."""

    a: Constitution
    b: Constitution

    @property
    def added(self) -> list[Principle]:
        return [item for item in self.b.principles if item.id not in self.a.weights]

    @property
    def removed(self) -> list[Principle]:
        return [item for item in self.a.principles if item.id not in self.b.weights]

    @property
    def kept(self) -> list[tuple[Principle, Principle]]:
        then = {item.id: item for item in self.a.principles}
        return [(then[item.id], item) for item in self.b.principles if item.id in then]

    @property
    def reworded(self) -> list[tuple[Principle, Principle]]:
        return [(before, after) for before, after in self.kept if before.text != after.text]

    @property
    def reweighted(self) -> list[tuple[Principle, Principle]]:
        return [(before, after) for before, after in self.kept if before.weight != after.weight]

    @property
    def new(self) -> list[Principle]:
        """Those of `b` about which nothing was asked under `a`."""
        return [*self.added, *(after for _, after in self.reworded)]

    def as_json(self) -> dict[str, Any]:
        return {
            "added": [item.model_dump() for item in self.added],
            "removed": [item.model_dump() for item in self.removed],
            "reworded": [
                {"id": after.id, "before": before.text, "after": after.text}
                for before, after in self.reworded
            ],
            "reweighted": [
                {"id": after.id, "before": before.weight, "after": after.weight}
                for before, after in self.reweighted
            ],
            "shares": {
                name: {"before": self.a.weights.get(name), "after": self.b.weights.get(name)}
                for name in {**self.a.weights, **self.b.weights}
            },
        }

"""The models of a job as its driver knows them: most of them from what the workers tell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.distributed.rows import Row
from pipelines.distributed.workers import COUNTED
from pipelines.outcome import Pairing
from pipelines.roles import REWARD, Role, Roles
from prefgen.usage import Usage


@dataclass
class DriverRoles(Roles):
    """`Roles`, of which the workers' models are a part: their usage, and what they are."""

    _used: Counter[str] = field(default_factory=Counter)
    _models: dict[str, dict[str, Any]] = field(default_factory=dict)
    _names: dict[str, set[str]] = field(default_factory=dict)
    _principles: dict[str, float] = field(default_factory=dict)

    def count(self, rows: Iterable[Row]) -> None:
        """Adds what the workers used for rows that came back."""
        for report in _reports(rows):
            self._used.update(report["used"])

    def recognise(self, rows: Iterable[Row]) -> None:
        """Notes by which models rows were made."""
        for report in _reports(rows):
            self._principles |= report.get("principles", {})
            for name, (told, names) in report["models"].items():
                known = self._models.setdefault(name, told)
                known.get("capabilities_missing", {}).update(told.get("capabilities_missing", {}))
                self._names.setdefault(name, set()).update(names)

    def weighed(self, pairing: Pairing) -> Pairing:
        """With the shares of the principles, which the judges know."""
        weighing = pairing.weighing
        return replace(
            pairing, weighing=replace(weighing, principles=weighing.principles or self._principles)
        )

    def _usages(self, role: Role) -> list[Usage]:
        """All that was paid is in the ledger, by whomever."""
        return []

    @property
    def usage(self) -> dict[str, Any]:
        self._read_spending()
        told = super().usage
        return told | {name: told[name] + self._used[name] for name in COUNTED}

    def served(self, text: str, *, reward: bool = False) -> dict[str, Any]:
        told = self._models[REWARD + text if reward else text]
        names = [] if reward else self.served_names(text)
        return told | ({"served": ", ".join(names)} if names else {})

    def served_names(self, text: str) -> list[str]:
        return sorted(self._names[text])


def _reports(rows: Iterable[Row]) -> Iterable[Mapping[str, Any]]:
    return (json.loads(report) for row in rows for report in row["reports"])

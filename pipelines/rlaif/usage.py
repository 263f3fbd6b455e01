"""What a loop has paid so far, over all the processes it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.roles import Roles
from prefgen.files import write_json


class Spent:
    """Kept in `usage.json` by round, 0 being what comes before the first. A process that is killed loses the
    count, not the answers, of the step it was in."""

    def __init__(self, path: Path, roles: Roles) -> None:
        self._path, self._roles = path, roles
        self.rounds: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        roles.take_usage()

    def book(self, number: int) -> None:
        """Adds what was used since the last time to a round."""
        new, name = self._roles.take_usage(), str(number)
        self.rounds[name] = add(self.rounds[name], new) if name in self.rounds else new
        write_json(self._path, self.rounds)

    @property
    def total(self) -> dict[str, Any]:
        found: dict[str, Any] = self._roles.used
        for told in self.rounds.values():
            found = add(found, told)
        return found


def add(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The sums; unknown (None) and anything is unknown."""
    return {
        name: None if value is None or other.get(name, 0) is None else value + other.get(name, 0)
        for name, value in one.items()
    }

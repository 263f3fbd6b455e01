"""Files that ship with prefgen: `data/` of the repository, package data of the wheel."""

from __future__ import annotations

from pathlib import Path

from prefgen.errors import UsageError


def asset(name: str) -> Path:
    """The path of a shipped file or folder, named relative to `data/`. Raises UsageError."""
    here = Path(__file__).parent
    for root in (here / "data", here.parent / "data"):
        if (root / name).exists():
            return root / name
    raise UsageError(f"the shipped file data/{name} is missing; reinstall prefgen")

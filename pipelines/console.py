"""What people see while a job runs: progress on a terminal, silence in a pipe, results at the end.

Results go to stdout (one JSON object with `--json`); everything else goes to stderr. Of the processes of one
training run the main one speaks; errors are told by whoever meets them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from trainers.processes import is_main


class Console:
    """`quiet`: neither progress nor notes, warnings only."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._err = RichConsole(stderr=True, highlight=False)

    def note(self, text: str) -> None:
        if not self.quiet and is_main():
            self._err.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        if is_main():
            self._err.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    def error(self, text: str) -> None:
        self._err.print(f"error: {text}", style="red", markup=False, soft_wrap=True)

    def result(self, values: Mapping[str, Any], text: str) -> None:
        """The outcome of a command: `values` as JSON, or `text` for people."""
        if not is_main():
            return
        print(json.dumps(values, ensure_ascii=False, allow_nan=False) if self.as_json else text)
        sys.stdout.flush()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """One thing that takes a while, with its seconds."""
        start = time.monotonic()
        if self._err.is_terminal and not self.quiet:
            with self._err.status(what):
                yield
        else:
            yield
        self.note(f"{what}: {time.monotonic() - start:.1f} s")

    @contextmanager
    def progress(
        self, what: str, total: int | None, state: Callable[[], str]
    ) -> Iterator[Callable[[], None]]:
        """Yields a function to call after each unit. `state()` is shown beside rate and ETA."""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._err,
            disable=self.quiet or not self._err.is_terminal,
        ) as bar:
            task = bar.add_task(what, total=total, rate="", state="")
            start = time.monotonic()
            done = 0

            def advance() -> None:
                nonlocal done
                done += 1
                rate = done / max(1e-9, time.monotonic() - start)
                bar.update(task, advance=1, rate=f"{rate:.1f}/s", state=state())

            yield advance

"""What people see while a job runs: progress on a terminal, silence in a pipe, results at the end.

Results go to stdout (one JSON object with `--json`); everything else goes to stderr. Of the processes of one
training run the main one speaks; errors are told by whoever meets them. What is shown may hold what models
and users wrote: control characters do not reach the terminal, nor do keys.
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
from rich.text import Text

from pipelines.markup import UNSEEN, plain
from prefgen.secrets import hide
from trainers.processes import is_main


class Console:
    """`quiet`: neither progress nor notes, warnings only."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._err = RichConsole(stderr=True, highlight=False)

    def note(self, text: str) -> None:
        if not self.quiet and is_main():
            self._say(text)

    def warn(self, text: str) -> None:
        if is_main():
            self._say(f"warning: {text}", "yellow")

    def error(self, text: str) -> None:
        self._say(f"error: {text}", "red")

    def _say(self, text: str, style: str = "") -> None:
        self._err.print(Text(shown(text), style), soft_wrap=True)

    def result(self, values: Mapping[str, Any], text: str) -> None:
        """The outcome of a command: `values` as JSON, or `text` for people."""
        if not is_main():
            return
        print(as_json(values) if self.as_json else shown(text))
        sys.stdout.flush()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """One thing that takes a while, with its seconds."""
        start = time.monotonic()
        if self._err.is_terminal and not self.quiet:
            with self._err.status(Text(shown(what))):
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
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=self._err,
            disable=self.quiet or not self._err.is_terminal,
        ) as bar:
            task = bar.add_task(shown(what), total=total, rate="", state="")
            start = time.monotonic()
            done = 0

            def advance() -> None:
                nonlocal done
                done += 1
                rate = done / max(1e-9, time.monotonic() - start)
                bar.update(task, advance=1, rate=f"{rate:.1f}/s", state=shown(state()))

            yield advance


def shown(text: str) -> str:
    """A text as a terminal may show it."""
    return hide(plain(text))


def as_json(values: Mapping[str, Any]) -> str:
    """One line of JSON of the same values, in which control characters are escaped."""
    line = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return hide(UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line))

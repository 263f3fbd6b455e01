"""Progress in a notebook: a bar that is drawn over by what every notebook has; rich's needs ipywidgets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console as RichConsole

from pipelines.console import Console, shown
from pipelines.markup import text

_EVERY = 0.2
"""Seconds between two drawings."""


def console_for(quiet: bool | None) -> Console:
    """None: progress and notes in a notebook, neither elsewhere. Warnings are always told."""
    if RichConsole().is_jupyter:
        return NotebookConsole(quiet=bool(quiet))
    return Console(quiet=quiet is None or quiet)


class NotebookConsole(Console):
    @contextmanager
    def progress(
        self, what: str, total: int | None, state: Callable[[], str]
    ) -> Iterator[Callable[[], None]]:
        if self.quiet:
            yield lambda: None
            return
        bar = _Bar(what, total)
        yield lambda: bar.advance(state)
        bar.draw(state())


class _Bar:
    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total, self._done = what, total, 0
        self._start = self._drawn = time.monotonic()
        display = import_module("IPython.display").display  # No package of ours: the notebook has it.
        self._handle: Any = display(self._shown(""), raw=True, display_id=True)

    def advance(self, state: Callable[[], str]) -> None:
        self._done += 1
        if time.monotonic() - self._drawn > _EVERY:
            self.draw(state())

    def draw(self, state: str) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self._shown(state), raw=True)

    def _shown(self, state: str) -> dict[str, str]:
        seconds = time.monotonic() - self._start
        rate = self._done / max(1e-9, seconds)
        of = "" if self._total is None else f"/{self._total}"
        line = shown(f"{self._what} {self._done}{of}  {rate:.1f}/s  {seconds:.0f} s  {state}")
        bar = f'<progress value="{self._done}" max="{self._total or max(1, self._done)}"></progress>'
        return {"text/plain": line, "text/html": f"{bar} {text(line)}"}

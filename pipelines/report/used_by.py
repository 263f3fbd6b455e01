"""What was made of a run: a section of its page."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from pipelines.markup import how, table, text
from pipelines.uses import Use, rows_of, training_at, uses


def used_by(run: Path) -> str:
    """The trainings, evaluations, loops and datasets made of a run, as HTML; nothing where there is none."""
    found = uses(run)
    if not found:
        return ""
    now = set(rows_of(run).values())
    rows = [[_linked(use.path, run), text(_kind(use)), _when(use), _state(use, now)] for use in found]
    told = (
        "What is on record in uses.jsonl, and trainings on these rows that lie near the run. prefgen report "
        "writes this page anew; prefgen why tells which of them saw a pair."
    )
    return table("Made of this run", ("where", "what", "when", ""), rows) + how(told)


def _linked(path: Path, run: Path) -> str:
    """A path, with a link to its page where it has one; relative, so that both may move together."""
    page = path / "report.html"
    if not page.is_file():
        return text(path)
    relative = os.path.relpath(page, run.resolve())
    return f'<a href="{quote(os.fsencode(relative))}">{text(path)}</a>'


def _kind(use: Use) -> str:
    report = training_at(use.path) if use.kind == "training" else None
    return use.kind if report is None else f"{use.kind} ({report['stage']})"


def _when(use: Use) -> str:
    return "–" if use.time is None else text(use.time[:10])


def _state(use: Use, now: set[str]) -> str:
    if use.gone:
        return "gone"
    # Of other rows than there are now: the run was made anew in its place.
    return "of earlier rows" if use.rows and not now & set(use.rows.values()) else "there"

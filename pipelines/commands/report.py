"""prefgen report."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.helping import Command


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@common
def report(directory: Path, as_json: bool, quiet: bool) -> None:
    """Write anew the page of any directory that prefgen made, and summarise it.

    That of a run or other pairs of it, a training, a sweep, a loop, an evaluation, a calibration, an audit,
    revisions, or a quickstart. No model is called.

    \b
    prefgen report runs/first
    prefgen report models/dpo --json
    """
    from pipelines.report.directory import report_on

    Console(as_json=as_json, quiet=quiet).result(*report_on(directory))

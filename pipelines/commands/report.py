"""prefgen report."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.helping import Command
from prefgen.run import RunDirectory


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@common
def report(run: Path, as_json: bool, quiet: bool) -> None:
    """Write report.html of a finished run or training anew and summarise it."""
    from pipelines.report.page import write_report
    from pipelines.summary import run_summary

    if (run / "training.json").is_file():
        from pipelines.train import report_training

        Console(as_json=as_json, quiet=quiet).result(*report_training(run))
        return
    directory = RunDirectory.open(run)
    write_report(directory, directory.manifest)
    console = Console(as_json=as_json, quiet=quiet)
    console.result(directory.manifest, run_summary(run, directory.manifest))

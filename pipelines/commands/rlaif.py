"""prefgen rlaif."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.helping import Command


@click.command(cls=Command)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the loop, in place of the file's.")
@used_directory
@common
def rlaif(config: Path, out: Path | None, resume: bool, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Rounds of sample, judge, pair, train and evaluate, which stop when the judge is gamed.

    \b
    prefgen rlaif CONFIG.yaml --out loops/first
    prefgen rlaif CONFIG.yaml --out loops/first --resume
    """
    from pipelines.rlaif.config import read_config
    from pipelines.rlaif.loop import rlaif as run
    from pipelines.rlaif.table import loop_summary

    settings = read_config(config, out)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = wait_for(run(settings, console, resume=resume, overwrite=overwrite))
    console.result(manifest, loop_summary(settings.out, manifest))

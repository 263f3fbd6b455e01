"""prefgen init."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.helping import Command


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path), default=Path("."), metavar="[DIR]")
@click.option("--overwrite", is_flag=True, help="Replace files of these names in DIR.")
@common
def init(directory: Path, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Write commented configs of the three jobs, which run at once with scripted models.

    \b
    prefgen init first && cd first
    prefgen generate --config generate.yaml
    """
    from pipelines.init import init as run
    from pipelines.init import init_summary

    written = run(directory, overwrite=overwrite)
    Console(as_json=as_json, quiet=quiet).result(written, init_summary(written))

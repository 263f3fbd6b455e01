"""prefgen export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.export.config import ExportConfig, TrainerName
from pipelines.helping import Command, FieldOption
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "trainer",
    cls=FieldOption,
    needed=True,
    type=click.Choice(get_args(TrainerName)),
    help="Who is to train on it.",
)
@options_of(ExportConfig, skip=("run", "trainer"))
@click.option("--overwrite", is_flag=True, help="Replace an earlier export at --out.")
@common
def export(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Write a finished run's rows as another trainer takes them, and how to start it.

    Every row is held against that trainer's own schema, and the files are read back before they are
    published. A row it would drop or read as something else is refused, with its line and the reason.

    \b
    prefgen export runs/first --for trl
    prefgen export runs/first --for llamafactory --dataset kto
    prefgen export runs/first --for verl --reference answer
    prefgen export runs/first --for trl --dataset reward --push OWNER/NAME
    """
    from pipelines.export.job import export_summary
    from pipelines.export.push import export_and_push

    config = build(ExportConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    made = export_and_push(config, console, overwrite=overwrite)
    console.result(made, export_summary(made))

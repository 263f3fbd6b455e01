"""prefgen label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.helping import Command
from pipelines.labelling.config import LabelConfig
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("source", metavar="FILE_OR_RUN", type=click.Path(path_type=Path))
@options_of(LabelConfig, skip=("source",))
@click.option("--overwrite", is_flag=True, help="Replace a labels file that this command did not write.")
@common
def label(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Show people pairs on a local page and keep their labels, for calibrate.

    FILE_OR_RUN is a pairs file, a labels file or a finished run. Ctrl-C ends it; the same command goes on.

    \b
    prefgen label pairs.jsonl --annotators anna,ben --overlap 2
    prefgen label runs/first --count 200
    prefgen label runs/first --audit 50
    prefgen label pairs.jsonl --adjudicate
    """
    from pipelines.labelling.label import label as run
    from pipelines.labelling.summary import label_summary

    config = build(LabelConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = run(config, console, overwrite=overwrite)
    console.result(found, label_summary(config, found))

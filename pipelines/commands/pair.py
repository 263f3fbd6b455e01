"""prefgen pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.generate_config import PairConfig
from pipelines.options import build, options_of


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@options_of(PairConfig, skip=("run",))
@click.option("--overwrite", is_flag=True, help="Replace what is in the output directory.")
@common
def pair(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Make other pairs from a finished run's judgments; no model is called.

    \b
    prefgen pair runs/first --min-confidence 0.9 --strategy all --max-pairs 3 --out runs/strict
    """
    from pipelines.pair import pair as run
    from pipelines.summary import run_summary

    config = build(PairConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = run(config, console, overwrite=overwrite)
    console.result(manifest, run_summary(config.out, manifest))

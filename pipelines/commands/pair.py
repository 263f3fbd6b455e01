"""prefgen pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.generate_config import PairConfig
from pipelines.helping import Command
from pipelines.options import build, options_of
from pipelines.what_if.config import GRID, GridConfig, WhatIfConfig
from prefgen.errors import UsageError
from prefgen.yamlfile import read_yaml


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@options_of(GridConfig, PairConfig, skip=("run",))
@click.option("--overwrite", is_flag=True, help="Replace what is at --out.")
@common
def pair(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Other pairs from a finished run's judgments, or a table of what settings come to.

    No model is called. Without --out nothing is written: the table holds what is given fixed and varies
    strategies and thresholds.

    \b
    prefgen pair runs/first
    prefgen pair runs/first --strategy all --min-confidence 0.8 --min-confidence 0.9
    prefgen pair runs/first --min-confidence 0.9 --strategy all --max-pairs 3 --out runs/strict
    """
    console = Console(as_json=as_json, quiet=quiet)
    config: Path | None = given["config"]
    if given["out"] is None and (config is None or "out" not in read_yaml(config)):
        from pipelines.what_if.what_if import what_if
        from pipelines.what_if.words import what_if_text

        found = what_if(build(WhatIfConfig, given, PairConfig), console)
        console.result(found, what_if_text(found))
        return
    from pipelines.pair import pair as run
    from pipelines.summary import run_summary

    built = build(PairConfig, given | {name: _one(name, given[name]) for name in GRID})
    manifest = run(built, console, overwrite=overwrite)
    console.result(manifest, run_summary(built.out, manifest))


def _one(name: str, values: tuple[Any, ...]) -> Any:
    """Raises UsageError for several: a dataset is made by one setting."""
    if len(values) > 1:
        flag = "--" + name.replace("_", "-")
        raise UsageError(
            f"{flag} was given {len(values)} times: --out writes one of them; leave it out to compare"
        )
    return values[0] if values else None

"""prefgen quickstart."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.helping import Command


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("quickstart"),
    show_default=True,
    help="Directory for everything the run makes.",
)
@click.option(
    "--stage",
    "stages",
    type=click.Choice(["dpo", "kto", "grpo", "ppo"]),
    multiple=True,
    default=("dpo", "kto"),
    show_default=True,
    help="Stages to train and measure; may be given several times.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of sampling.")
@used_directory
@common
def quickstart(
    out: Path, stages: tuple[str, ...], seed: int, resume: bool, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """The whole RLAIF run on embedded models: no key, no network, no GPU."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # Read when the hub's library is first imported.
    from pipelines.quickstart import quickstart as run
    from pipelines.quickstart import quickstart_summary

    console = Console(as_json=as_json, quiet=quiet)
    stages = tuple(dict.fromkeys(stages))
    results = wait_for(run(out, console, stages=stages, seed=seed, resume=resume, overwrite=overwrite))
    console.result(results, quickstart_summary(results))

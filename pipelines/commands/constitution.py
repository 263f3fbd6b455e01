"""prefgen constitution: what one says, and what another would change."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.constitution.config import DiffConfig
from pipelines.helping import Group
from pipelines.options import build, options_of


@click.group(cls=Group)
def constitution() -> None:
    """Show a constitution, or what another one would change in a run."""


@constitution.command("show")
@click.argument("name")
@common
def constitution_show(name: str, as_json: bool, quiet: bool) -> None:
    """The principles of a YAML file or of a shipped constitution, with their weights.

    \b
    prefgen constitution show support-tone
    """
    from judges.constitution import load_constitution
    from pipelines.constitution.words import constitution_text

    found = load_constitution(name)
    told = {**found.model_dump(mode="json"), "hash": found.hash, "shares": found.weights}
    Console(as_json=as_json, quiet=quiet).result(told, constitution_text(found))


@constitution.command("diff")
@click.argument("a")
@click.argument("b")
@options_of(DiffConfig, skip=("a", "b", "seed"))
@click.option("--quote", is_flag=True, help="Only say how many questions --run takes.")
@used_directory
@common
def constitution_diff(
    as_json: bool, quiet: bool, quote: bool, resume: bool, overwrite: bool, **given: Any
) -> None:
    """What B changes in A and, with --run, which pairs of the run flip, disappear or appear by it.

    What is new in B is asked of the run's judge, and nothing else; weights alone take no call. What was
    paid for is not asked again.

    \b
    prefgen constitution diff support-tone mine.yaml
    prefgen constitution diff support-tone mine.yaml --run runs/first --max-cost 5
    """
    from pipelines.constitution.diff import diff
    from pipelines.constitution.words import diff_text

    config = build(DiffConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = wait_for(diff(config, console, quote=quote, resume=resume, overwrite=overwrite))
    console.result(found, diff_text(found))

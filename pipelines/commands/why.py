"""prefgen why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.helping import Command
from pipelines.options import build, options_of
from pipelines.why.config import WhyConfig
from prefgen.errors import UsageError


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("ids", nargs=-1, metavar="[ID [ID]]")
@options_of(WhyConfig, skip=("run", "ids"))
@common
def why(as_json: bool, quiet: bool, **given: Any) -> None:
    """How a pair came to be, or why there is none: judgments, arithmetic, rule, trainings.

    ID is that of a pair, of a row of undecided.parquet, of a prompt or of a response (all their pairs), or
    its beginning; two responses stand for a pair that was dropped. Without one some ids are shown.

    \b
    prefgen why runs/first
    prefgen why runs/first 3f8a2c
    """
    from pipelines.why.story import why as tell
    from pipelines.why.words import why_text

    config = build(WhyConfig, given)
    if len(config.ids) > 2:
        raise UsageError(f"{len(config.ids)} ids: give one, or the two responses of a pair")
    found = tell(config)
    Console(as_json=as_json, quiet=quiet).result(found, why_text(found))

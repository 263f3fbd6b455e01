"""prefgen doctor."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.shared import common, wait_for
from pipelines.console import Console
from pipelines.doctor.config import DoctorConfig
from pipelines.helping import Command
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@options_of(DoctorConfig)
@common
def doctor(models: tuple[str, ...], as_json: bool, quiet: bool, **given: Any) -> None:
    """Check the installation, the machine and the models you name; says how to fix what is wrong.

    Exit code 3 where something that was asked for does not work.

    \b
    prefgen doctor openai/NAME vllm/PATH
    prefgen doctor --judge openai/NAME@http://127.0.0.1:8000/v1
    prefgen doctor --start-vllm
    """
    from pipelines.doctor.examine import as_json as told
    from pipelines.doctor.examine import examine, in_words

    config = build(DoctorConfig, given | {"model": (*models, *given["model"])})
    console = Console(as_json=as_json, quiet=quiet)
    checks = wait_for(examine(config, console))
    result = told(checks)
    console.result(result, in_words(checks))
    if not result["ok"]:
        raise click.exceptions.Exit(3)

"""prefgen revise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.helping import Command
from pipelines.options import build, options_of
from pipelines.revise_config import ReviseConfig


@click.command(cls=Command)
@click.argument("prompts", type=click.Path(path_type=Path), required=False)
@options_of(
    ReviseConfig,
    skip=("prompts",),
    common=(
        "out",
        "policy",
        "critic",
        "constitution",
        "rounds",
        "temperature",
        "max_tokens",
        "system",
        "engine_arg",
        "concurrency",
        "max_cost",
        "seed",
    ),
)
@used_directory
@common
def revise(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """Criticise and rewrite a model's responses by a constitution, in rounds.

    Writes demonstrations of the last revisions, and pairs of response and revision to be judged.

    \b
    prefgen revise prompts.jsonl --policy vllm/PATH --constitution support-tone --out runs/revised
    prefgen judge runs/revised/pairs.parquet --judge openai/NAME --out verdicts.jsonl
    prefgen train sft --model PATH --data runs/revised/sft.parquet --out models/sft
    """
    from pipelines.revise import revise as run
    from pipelines.revise import revise_summary

    config = build(ReviseConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = wait_for(run(config, console, resume=resume, overwrite=overwrite))
    console.result(manifest, revise_summary(config.out, manifest))

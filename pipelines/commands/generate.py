"""prefgen generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.generate_config import GenerateConfig
from pipelines.helping import Command
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("prompts", type=click.Path(path_type=Path), required=False)
@options_of(
    GenerateConfig,
    skip=("prompts",),
    common=(
        "policy",
        "judge",
        "reward_model",
        "out",
        "n",
        "temperature",
        "max_tokens",
        "system",
        "constitution",
        "judging",
        "strategy",
        "min_confidence",
        "calibration",
        "target_precision",
        "format",
        "engine_arg",
        "concurrency",
        "max_cost",
        "seed",
    ),
)
@click.option("--quote", is_flag=True, help="Tell what it will take from a few of the prompts, then stop.")
@used_directory
@common
def generate(as_json: bool, quiet: bool, resume: bool, overwrite: bool, quote: bool, **given: Any) -> None:
    """Make a preference dataset from the prompts of a file.

    \b
    prefgen generate prompts.jsonl --policy vllm/PATH --judge openai/NAME --out runs/first
    """
    from pipelines.generate import generate as run
    from pipelines.quote import quote_in_words
    from pipelines.summary import run_summary

    config = build(GenerateConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    manifest = wait_for(run(config, console, resume=resume, overwrite=overwrite, quote=quote))
    told = quote_in_words(manifest["quote"]) if quote else run_summary(config.out, manifest)
    console.result(manifest, told)

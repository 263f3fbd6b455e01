"""prefgen judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.generate_config import JudgeConfig
from pipelines.helping import Command
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("pairs", type=click.Path(path_type=Path))
@options_of(
    JudgeConfig,
    skip=("pairs",),
    common=(
        "out",
        "judge",
        "reward_model",
        "constitution",
        "judging",
        "principles",
        "evidence",
        "votes",
        "reference",
        "scale",
        "engine_arg",
        "concurrency",
        "max_cost",
        "seed",
    ),
)
@used_directory
@common
def judge(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """Judge pairs of responses that exist already; writes one verdict a line.

    \b
    prefgen judge pairs.jsonl --judge openai/NAME --out verdicts.jsonl
    """
    from pipelines.judge import judge_file, judge_summary

    config = build(JudgeConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = wait_for(judge_file(config, console, overwrite=overwrite or resume))
    console.result(result, judge_summary(result))

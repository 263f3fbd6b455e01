"""prefgen evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.evaluation.config import EvaluateConfig
from pipelines.helping import Command
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("prompts", type=click.Path(path_type=Path), required=False)
@options_of(
    EvaluateConfig,
    skip=("prompts",),
    common=(
        "model",
        "baseline",
        "out",
        "annotations",
        "against",
        "labels",
        "stop_when_clear",
        "temperature",
        "max_tokens",
        "judge",
        "reward_model",
        "constitution",
        "judging",
        "engine_arg",
        "concurrency",
        "max_cost",
        "seed",
    ),
)
@used_directory
@common
def evaluate(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """How often a judge prefers one model's answers to another's, and how sure that is.

    \b
    prefgen evaluate prompts.jsonl --model vllm/NEW --baseline vllm/OLD --judge openai/NAME --out evals/new
    prefgen evaluate --annotations evals/new/annotations.jsonl --labels labels.jsonl
    """
    from pipelines.evaluation.evaluate import evaluate as run
    from pipelines.evaluation.summary import evaluation_summary

    config = build(EvaluateConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = wait_for(run(config, console, resume=resume, overwrite=overwrite))
    console.result(result, evaluation_summary(result, config.out))

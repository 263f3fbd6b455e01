"""prefgen calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.calibration.config import CalibrateConfig
from pipelines.commands.shared import common, used_directory, wait_for
from pipelines.console import Console
from pipelines.helping import Command
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("labels", type=click.Path(path_type=Path), required=False)
@options_of(
    CalibrateConfig,
    skip=("labels",),
    common=(
        "out",
        "verdicts",
        "target",
        "delta",
        "repeats",
        "unlabelled",
        "next",
        "judge",
        "reward_model",
        "constitution",
        "judging",
        "scale",
        "engine_arg",
        "concurrency",
        "max_cost",
        "seed",
    ),
)
@used_directory
@common
def calibrate(as_json: bool, quiet: bool, resume: bool, overwrite: bool, **given: Any) -> None:
    """Hold a judge against human labels: may it be trusted, and how far?

    \b
    prefgen calibrate labels.jsonl --judge openai/NAME --out calibrations/first
    prefgen calibrate labels.jsonl --verdicts verdicts.jsonl --out calibrations/second
    prefgen generate prompts.jsonl … --calibration calibrations/first/calibration.json --target-precision 0.9
    """
    from pipelines.calibration.calibrate import calibrate as run
    from pipelines.calibration.summary import calibration_summary

    config = build(CalibrateConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = wait_for(run(config, console, overwrite=overwrite or resume))
    console.result(found, calibration_summary(config.out, found))

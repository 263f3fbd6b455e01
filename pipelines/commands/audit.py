"""prefgen audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.audit.config import AuditConfig
from pipelines.commands.shared import common, wait_for
from pipelines.console import Console
from pipelines.helping import Command
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@options_of(
    AuditConfig,
    skip=("run",),
    common=(
        "out",
        "eval_file",
        "eval_responses",
        "flag_share",
        "probes",
        "judge",
        "constitution",
        "engine_arg",
        "concurrency",
        "max_cost",
    ),
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier audit.")
@common
def audit(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Look for what is wrong with a finished run's labels; no model is called without --judge.

    \b
    prefgen audit runs/first --eval-file benchmark.jsonl
    """
    from pipelines.audit.audit import audit as run
    from pipelines.audit.audit import audit_summary

    config = build(AuditConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = wait_for(run(config, console, overwrite=overwrite))
    console.result(found, audit_summary(config.out or config.run / "audit", found))

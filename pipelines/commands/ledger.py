"""prefgen ledger: what stands in it, and its upkeep."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.helping import Group
from pipelines.ledger.config import ExportConfig, LedgerConfig, PruneConfig, VerifyConfig
from pipelines.options import build, options_of


@click.group(cls=Group)
def ledger() -> None:
    """Look at and keep up the file of paid answers: stats, export, prune or verify."""


@ledger.command("stats")
@options_of(LedgerConfig)
@common
def ledger_stats(as_json: bool, quiet: bool, **given: Any) -> None:
    """What a ledger holds, by model, and what each run paid."""
    from pipelines.ledger.reading import stats as run
    from pipelines.ledger.reading import stats_summary

    found = run(build(LedgerConfig, given))
    Console(as_json=as_json, quiet=quiet).result(found, stats_summary(found))


@ledger.command("export")
@options_of(ExportConfig)
@click.option("--overwrite", is_flag=True, help="Replace the file at --out.")
@common
def ledger_export(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Write answers as JSON lines: key, model, created, value.

    \b
    prefgen ledger export --model openai/NAME --since 30d --out answers.jsonl
    """
    from pipelines.ledger.reading import export as run

    config = build(ExportConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    found = run(config, as_json=as_json, overwrite=overwrite)
    if config.out is not None:
        console.result(found, f"{found['rows']} answers written to {config.out}")


@ledger.command("prune")
@options_of(PruneConfig)
@common
def ledger_prune(as_json: bool, quiet: bool, **given: Any) -> None:
    """Remove old answers and make the file smaller; what runs paid stays on record.

    \b
    prefgen ledger prune --older-than 90d --dry-run
    """
    from pipelines.ledger.upkeep import prune as run
    from pipelines.ledger.upkeep import prune_summary

    found = run(build(PruneConfig, given))
    Console(as_json=as_json, quiet=quiet).result(found, prune_summary(found))


@ledger.command("verify")
@options_of(VerifyConfig)
@common
def ledger_verify(as_json: bool, quiet: bool, **given: Any) -> None:
    """Look whether the file and every answer in it are whole; exit 3 where not."""
    from pipelines.ledger.upkeep import verify as run
    from pipelines.ledger.upkeep import verify_summary

    found = run(build(VerifyConfig, given))
    Console(as_json=as_json, quiet=quiet).result(found, verify_summary(found))

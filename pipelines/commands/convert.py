"""prefgen convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.convert_config import ConvertConfig
from pipelines.helping import Command
from pipelines.options import build, options_of


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@options_of(ConvertConfig, skip=("file",))
@click.option("--overwrite", is_flag=True, help="Replace the file at --out.")
@common
def convert(as_json: bool, quiet: bool, overwrite: bool, **given: Any) -> None:
    """Turn feedback, public preference sets, or another stage's rows into rows to train on.

    FILE holds prompt and response with label, thumbs or rating; or prompt, kept, discarded; or prompt,
    sent, draft; or prompt, chosen, rejected; or Human/Assistant transcripts in chosen and rejected; or rated
    or ranked lists (UltraFeedback, distilabel, Nectar); or response_0, response_1, better_response_id
    (PKU-SafeRLHF); or Chatbot Arena's conversations. Pairs are taken apart for kto, and for dpo and reward
    good and bad responses to one prompt are put together.

    \b
    prefgen convert thumbs.csv --to kto --out kto.jsonl
    prefgen convert stars.jsonl --good-from 4 --bad-to 2 --to kto --out kto.parquet
    prefgen convert drafts.jsonl --to dpo --out dpo.jsonl
    prefgen convert ultrafeedback.parquet --to dpo --min-gap 0.5 --out uf.parquet
    prefgen convert hh.jsonl --to reward --format standard --out reward.jsonl
    """
    from pipelines.convert import convert as run
    from pipelines.convert import convert_summary

    config = build(ConvertConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = run(config, console, overwrite=overwrite)
    console.result(result, convert_summary(result))

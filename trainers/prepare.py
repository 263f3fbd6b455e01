"""Everything about a stage that is known before anything is written: rows, tokenizer, limits, warnings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefgen.errors import InputError, UsageError
from trainers import loading
from trainers.config import StageConfig
from trainers.preflight import Checked, check_rows, explain
from trainers.rows import Parse, Row, read_rows, split_by_prompt
from trainers.stage import Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prepared:
    """`max_length`: tokens, after the model's own limit; `warnings`: what a user should hear."""

    tokenizer: PreTrainedTokenizerBase
    train: Checked
    eval: Checked
    max_length: int
    warnings: list[str]


def prepare(config: StageConfig, stage: Stage, files: tuple[Path, Path | None]) -> Prepared:
    """Reads and checks the rows of the training and the held-out file. Raises UsageError and its kinds."""
    train_rows, eval_rows = read_split(config, stage.parse, files)
    tokenizer = loading.load_tokenizer(config.model)
    notes = [loading.choose_pad_token(tokenizer, stage.head)]
    limit = min(config.max_length, loading.longest_context(config.model) or config.max_length)
    if limit < config.max_length and "max_length" in config.model_fields_set:
        notes.append(
            f"the model was made for {limit} tokens, so --max-length {config.max_length} is lowered to it"
        )
    if stage.reserve >= limit:
        raise UsageError(
            f"--max-new-tokens {stage.reserve} leave no room for a prompt in {limit} tokens "
            "(--max-length, or what the model was made for): lower it"
        )
    ends = loading.end_tokens(config.model, tokenizer)
    train, held_out = (
        _arrange(check_rows(rows, tokenizer, limit, ends, stage.keep_cut, stage.reserve), stage)
        for rows in (train_rows, eval_rows)
    )
    _check_enough(config, stage, train, held_out, files[0])
    notes.append(_overlap(train, held_out))
    texts = [*stage.notes, *(note for note in notes if note), *explain(train, tokenizer)]
    return Prepared(tokenizer, train, held_out, limit, texts)


def read_split(
    config: StageConfig, parse: Parse, files: tuple[Path, Path | None]
) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out, as they stand in the files. Raises InputError."""
    rows = read_rows(files[0], parse, config.as_chat)
    if files[1]:
        return rows, read_rows(files[1], parse, config.as_chat)
    return split_by_prompt(rows, config.eval_share)


def _arrange(checked: Checked, stage: Stage) -> Checked:
    rows = stage.arrange(checked.rows)
    if len(rows) < len(checked.rows):
        checked.dropped[stage.left_out] += len(checked.rows) - len(rows)
    checked.rows[:] = rows
    return checked


def _check_enough(config: StageConfig, stage: Stage, train: Checked, held_out: Checked, path: Path) -> None:
    if not train.rows:
        reasons = ", ".join(f"{number} {reason}" for reason, number in train.dropped.items())
        raise InputError(
            path, "no row is left to train on", seen=reasons, fix="a higher --max-length, other data"
        )
    stage.check(train.rows)
    _check_template(config, stage, train, path)
    if config.early_stopping_patience and not held_out.rows:
        raise UsageError("early stopping needs held-out rows: raise --eval-share or give --eval-data")


def _check_template(config: StageConfig, stage: Stage, train: Checked, path: Path) -> None:
    """What the chat template must not do to the completions, which are what is learnt."""
    rows = len(train.rows)
    if train.lost["assistant"]:
        raise UsageError(
            f"{path}: the model's chat template leaves out text of the assistant's turn in "
            f"{train.lost['assistant']} of {rows} rows, so what should be learnt is not there; give the "
            "tokenizer of the model another chat template"
        )
    if stage.head == "language" and rows and train.unended == rows and not config.allow_no_end:
        raise UsageError(
            f"{path}: no completion of the {rows} rows has an end token, so the model would learn never to "
            "stop; use a chat template that ends the assistant's turn with the model's end token, or add "
            "--allow-no-end"
        )


def _overlap(train: Checked, held_out: Checked) -> str | None:
    both = {row.prompt_hash for row in train.rows} & {row.prompt_hash for row in held_out.rows}
    return f"{len(both)} prompts are in the training and in the held-out rows" if both else None

"""Supervised fine-tuning on demonstrations, loss on the completion only (arXiv 2203.02155, step 1)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from prefgen.messages import Json
from trainers.config import StageConfig
from trainers.monitor import OnLog
from trainers.packing import check_packing
from trainers.rewards import Score
from trainers.rows import Row, as_trl, parse_demonstration
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    from transformers import Trainer


class SFTConfig(StageConfig):
    """Options of `train_sft`."""

    full_rate: ClassVar[float] = 2e-5
    lora_rate: ClassVar[float] = 2e-4

    packing: bool = False
    """Join short rows into sequences of --max-length tokens; --batch-size then counts those sequences."""


def train_sft(config: SFTConfig, on_log: OnLog | None = None, held_out: Score | None = None) -> Path:
    """Trains a model to write the completions and returns the folder of the model or adapter.

    A run directory (or any file of pairs) gives its chosen side. Of `messages` only the last turn is learnt.
    The loss is on the tokens of completions alone, packed or not; held-out rows are not packed.
    Raises UsageError, InputError, RunDirectoryError, ModelUnavailableError, GateError.
    """
    stage = Stage(
        name="sft",
        folder="dpo",
        parse=parse_demonstration,
        columns=_columns,
        build=partial(_build, config),
    )
    return run_stage(config, stage, on_log, held_out)


def _columns(row: Row) -> dict[str, Json]:
    return {"prompt": as_trl(row.prompt), "completion": as_trl(row.completions[0])}


def _build(config: SFTConfig, setup: Setup) -> tuple[Trainer, dict[str, Json]]:
    import trl

    packed: dict[str, object] = {"packing": True, "packing_strategy": "bfd", "eval_packing": False}
    arguments = trl.SFTConfig(
        **setup.arguments, completion_only_loss=True, **(packed if config.packing else {})
    )
    trainer = trl.SFTTrainer(**setup.parts(), args=arguments)
    if not config.packing:
        return trainer, {}
    return trainer, {
        "packed_sequences": len(trainer.train_dataset),
        "packing_difference": check_packing(trainer.model, trainer.train_dataset),
    }

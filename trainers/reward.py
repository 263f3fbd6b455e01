"""A reward model from pairs: Bradley-Terry loss on one number a sequence (arXiv 2203.02155, step 2)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from prefgen.errors import UsageError
from prefgen.messages import Json
from trainers.config import StageConfig
from trainers.monitor import OnLog
from trainers.rows import Row, as_trl, parse_pair
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    from transformers import Trainer


class RewardConfig(StageConfig):
    """Options of `train_reward`."""

    full_rate: ClassVar[float] = 1e-5
    lora_rate: ClassVar[float] = 1e-4

    use_margin: bool = False
    """Ask of each pair a lead in reward as large as its column margin says (Llama 2, arXiv 2307.09288)."""
    center_rewards_coefficient: float = Field(default=0, ge=0)
    """Weight of a term that pulls a pair's rewards to a sum of 0 (arXiv 2312.09244 uses 0.01); 0 = off."""

    @model_validator(mode="after")
    def _check_judge(self) -> RewardConfig:
        if self.watched_by is not None:
            raise UsageError("a reward model writes no answers that a judge could watch")
        return self


def train_reward(config: RewardConfig, on_log: OnLog | None = None) -> Path:
    """Trains a model with a reward head and returns the folder of the model or adapter.

    It loads as `AutoModelForSequenceClassification` with one label; the reward is read at the last token that
    is not padding. Pairs longer than `max_length` are left out, since a cut answer is not the one judged.
    Raises UsageError, InputError, RunDirectoryError, ModelUnavailableError, GateError.
    """
    return run_stage(config, reward_stage(config), on_log)


def reward_stage(config: RewardConfig) -> Stage:
    """Which rows it takes and how; `trainers.prepare.prepare` gives those it holds out."""
    return Stage(
        name="reward",
        folder="dpo",
        parse=partial(parse_pair, margin=config.use_margin),
        columns=_columns,
        build=partial(_build, config),
        head="reward",
        keep_cut=False,
    )


def _columns(row: Row) -> dict[str, Json]:
    chosen, rejected = row.completions
    columns: dict[str, Json] = {
        "prompt": as_trl(row.prompt),
        "chosen": as_trl(chosen),
        "rejected": as_trl(rejected),
    }
    return columns if row.margin is None else {**columns, "margin": row.margin}


def _build(config: RewardConfig, setup: Setup) -> tuple[Trainer, dict[str, Json]]:
    import trl

    arguments = trl.RewardConfig(
        **setup.arguments, center_rewards_coefficient=config.center_rewards_coefficient or None
    )
    return trl.RewardTrainer(**setup.parts(), args=arguments), {}

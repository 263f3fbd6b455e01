"""Direct preference optimization: Rafailov et al. 2023, arXiv 2305.18290."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from prefgen.errors import UsageError
from prefgen.messages import Json
from trainers.config import StageConfig
from trainers.monitor import OnLog
from trainers.rewards import Score
from trainers.rows import Row, as_trl, parse_pair
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    from transformers import Trainer

Loss = Literal["sigmoid", "ipo", "hinge"]


class DPOConfig(StageConfig):
    """Options of `train_dpo`."""

    full_rate: ClassVar[float] = 5e-7
    lora_rate: ClassVar[float] = 5e-6

    beta: float = Field(default=0.1, gt=0)
    """Price of moving away from the starting model, in reward per nat; lower lets it move further."""
    loss: Loss = "sigmoid"
    """sigmoid is DPO, hinge is SLiC's (arXiv 2305.10425); ipo (2310.12036) overfits certain pairs less."""
    label_smoothing: float = Field(default=0, ge=0, lt=0.5)
    """Share of pairs believed to be the wrong way round (conservative DPO); with the loss sigmoid only."""

    @model_validator(mode="after")
    def _check_smoothing(self) -> DPOConfig:
        if self.label_smoothing and self.loss != "sigmoid":
            raise UsageError(f"--label-smoothing belongs to the loss sigmoid, not to {self.loss}")
        return self


def train_dpo(config: DPOConfig, on_log: OnLog | None = None, held_out: Score | None = None) -> Path:
    """Trains a policy on pairs and returns the folder of the model or adapter.

    Full training compares with a frozen copy of the start; LoRA with the model under the adapter. The loss
    before the first step must be the one that policy = reference gives (sigmoid: ln 2 ≈ 0.6931). Raises
    UsageError, InputError, RunDirectoryError, ModelUnavailableError, GateError.
    """
    stage = Stage(
        name="dpo",
        folder="dpo",
        parse=parse_pair,
        columns=_columns,
        build=partial(_build, config),
        reference=True,
        base_model="refuse",
        first_loss=loss_at_reference(config.loss, config.beta),
    )
    return run_stage(config, stage, on_log, held_out)


def loss_at_reference(loss: Loss, beta: float) -> float:
    """The loss where both log-ratios are 0: -log sigmoid(0), (1 / 2 beta)², max(0, 1 - 0)."""
    return {"sigmoid": math.log(2), "ipo": 1 / (2 * beta) ** 2, "hinge": 1.0}[loss]


def loss_terms(loss: Loss, smoothing: float) -> dict[str, object]:
    """TRL's names for a loss.

    TRL's sigmoid ignores label smoothing. Its robust loss is (-(1-e) log σ(d) + e log σ(-d)) / (1 - 2e), so
    2(1-e) · sigmoid - (1-2e) · robust = -(1-e) log σ(d) - e log σ(-d), which is conservative DPO.
    """
    if not smoothing:
        return {"loss_type": [loss]}
    weights = [2 * (1 - smoothing), -(1 - 2 * smoothing)]
    return {"loss_type": ["sigmoid", "robust"], "loss_weights": weights, "label_smoothing": smoothing}


def _columns(row: Row) -> dict[str, Json]:
    chosen, rejected = row.completions
    return {"prompt": as_trl(row.prompt), "chosen": as_trl(chosen), "rejected": as_trl(rejected)}


def _build(config: DPOConfig, setup: Setup) -> tuple[Trainer, dict[str, Json]]:
    import trl

    terms = loss_terms(config.loss, config.label_smoothing)
    arguments = trl.DPOConfig(**setup.arguments, beta=config.beta, **terms)
    return trl.DPOTrainer(**setup.parts(), ref_model=setup.reference, args=arguments), {}

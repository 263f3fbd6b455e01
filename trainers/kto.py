"""Kahneman-Tversky optimization on answers labelled good or bad: Ethayarajh 2024, arXiv 2402.01306."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from prefgen.errors import InputError
from prefgen.messages import Json
from trainers.config import StageConfig
from trainers.monitor import OnLog
from trainers.rewards import Score
from trainers.rows import Row, as_trl, parse_labelled
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    from transformers import Trainer

BALANCE = (1.0, 4 / 3)
"""Where (desirable weight · desirable rows) / (undesirable weight · undesirable rows) should lie: eq. 8."""


class KTOConfig(StageConfig):
    """Options of `train_kto`."""

    full_rate: ClassVar[float] = 5e-7
    lora_rate: ClassVar[float] = 5e-6
    smallest_batch: ClassVar[int] = 2

    beta: float = Field(default=0.1, gt=0)
    """Price of moving away from the starting model, in reward per nat; lower lets it move further."""
    desirable_weight: float | None = Field(default=None, gt=0)
    """Weight of the rows labelled good; unset, from the counts, so that neither class outweighs the other."""
    undesirable_weight: float | None = Field(default=None, gt=0)
    """Weight of the rows labelled bad; unset, from the counts, so that neither class outweighs the other."""


def train_kto(config: KTOConfig, on_log: OnLog | None = None, held_out: Score | None = None) -> Path:
    """Trains a policy on labelled answers and returns the folder of the model or adapter.

    Raises InputError for rows of one class only, and UsageError, RunDirectoryError, ModelUnavailableError,
    GateError.
    """
    stage = Stage(
        name="kto",
        folder="kto",
        parse=parse_labelled,
        columns=_columns,
        build=partial(_build, config),
        reference=True,
        base_model="refuse",
        arrange=partial(shuffle, seed=config.seed, batch_size=config.batch_size),
        check=check_classes,
    )
    return run_stage(config, stage, on_log, held_out)


def class_weights(
    desirable: int,
    undesirable: int,
    desirable_weight: float | None = None,
    undesirable_weight: float | None = None,
) -> tuple[float, float]:
    """Weights of the two classes from their row counts (both above 0); those given are kept.

    The smallest change from 1 that brings the balance into [1, 4/3]: the weight of the class that counts too
    little is raised, so no weight that is not given falls below 1 when neither is given.
    """
    if desirable_weight is not None and undesirable_weight is not None:
        return desirable_weight, undesirable_weight
    balance = (desirable_weight or 1.0) * desirable / ((undesirable_weight or 1.0) * undesirable)
    wanted = min(max(balance, BALANCE[0]), BALANCE[1])
    if desirable_weight is None and (undesirable_weight is not None or balance < wanted):
        return wanted / balance, undesirable_weight or 1.0
    return desirable_weight or 1.0, balance / wanted


def shuffle(rows: list[Row], seed: int, batch_size: int) -> list[Row]:
    """The rows in the order of the seed, without a last row that would be a batch of its own.

    TRL reads KTO rows in order, so classes that stand apart would make batches of one class; and it estimates
    the KL term from the other answers of a batch, of which a lone row has none.
    """
    shuffled = random.Random(seed).sample(rows, len(rows))
    return shuffled[:-1] if len(rows) % batch_size == 1 else shuffled


def check_classes(rows: list[Row]) -> None:
    """Raises InputError where all labels are the same: KTO would only push all answers up, or all down."""
    labels = {row.label for row in rows}
    if len(labels) == 1:
        raise InputError(
            rows[0].path,
            "all labels are the same",
            seen=f"{len(rows)} usable rows, all {str(labels.pop()).lower()}",
            expected="desirable (true) and undesirable (false) rows",
            fix="add the other kind (prefgen convert takes pairs apart into both), or learn good responses "
            "alone with prefgen train sft",
        )


def _columns(row: Row) -> dict[str, Json]:
    return {"prompt": as_trl(row.prompt), "completion": as_trl(row.completions[0]), "label": row.label}


def _build(config: KTOConfig, setup: Setup) -> tuple[Trainer, dict[str, Json]]:
    import trl

    labels = list(setup.train["label"])
    desirable, undesirable = class_weights(
        labels.count(True), labels.count(False), config.desirable_weight, config.undesirable_weight
    )
    arguments = trl.KTOConfig(
        **setup.arguments, beta=config.beta, desirable_weight=desirable, undesirable_weight=undesirable
    )
    trainer = trl.KTOTrainer(**setup.parts(), ref_model=setup.reference, args=arguments)
    balance = desirable * labels.count(True) / (undesirable * labels.count(False))
    return trainer, {
        "desirable_weight": desirable,
        "undesirable_weight": undesirable,
        "class_balance": balance,
    }

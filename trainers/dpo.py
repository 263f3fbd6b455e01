"""Direct preference optimization: Rafailov et al. 2023, arXiv 2305.18290."""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from prefgen.errors import InputError, UsageError
from prefgen.messages import Json
from trainers import preference_losses as losses
from trainers.arguments import device_arguments
from trainers.config import StageConfig
from trainers.fingerprint import hash_weights
from trainers.label_noise import UNCALIBRATED, is_calibrated, noise_rate
from trainers.monitor import OnLog
from trainers.pairs import Pairs
from trainers.reference_cache import ReferenceCache, default_path
from trainers.rewards import Score
from trainers.rows import Row, as_trl, find_files, parse_pair
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer

Loss = Literal["sigmoid", "ipo", "hinge", "robust", "conservative", "soft"]
NOISY = ("robust", "conservative")


class PairConfig(StageConfig):
    """The options of stages that learn from pairs."""

    group_by_length: bool = False
    """Batches of pairs of about one length, in random order: less padding, and so faster."""
    share_prompt: bool = True
    """Compute a pair's prompt once for both responses, where the model's attention allows it."""


class DPOConfig(PairConfig):
    """Options of `train_dpo`."""

    full_rate: ClassVar[float] = 5e-7
    lora_rate: ClassVar[float] = 5e-6

    beta: float = Field(default=0.1, gt=0)
    """Price of moving away from the starting model, in reward per nat; lower lets it move further."""
    loss: Loss = "sigmoid"
    """Form of the loss. sigmoid is DPO, hinge is SLiC's, ipo overfits certain pairs less; robust and
    conservative expect some wrong labels, soft takes each pair's confidence as its target."""
    noise_rate: float | None = Field(default=None, ge=0, lt=0.5)
    """Share of pairs that are the wrong way round, for robust and conservative; unset, 1 minus the label
    precision that the run directory's calibration expects."""
    length_normalized: bool = False
    """Compare log-ratios per token instead of sums, so that length counts for less; take a larger --beta."""
    sft_weight: float = Field(default=0, ge=0)
    """Weight of the chosen responses' negative log-likelihood a token, which keeps them likely."""
    weight_by_confidence: bool = False
    """Weigh each pair by 2 · confidence - 1, scaled to a mean of 1 over the training pairs."""
    reference_cache: Path | None = None
    """File that remembers log-probabilities of starting models. [default: in the user's cache directory]."""

    @model_validator(mode="after")
    def _check_loss(self) -> DPOConfig:
        if self.noise_rate is not None and self.loss not in NOISY:
            raise UsageError(f"--noise-rate belongs to the losses {' and '.join(NOISY)}, not to {self.loss}")
        if self.length_normalized and self.loss == "ipo":
            raise UsageError("--loss ipo is length-normalized by itself: leave --length-normalized out")
        if self.weight_by_confidence and self.loss == "soft":
            raise UsageError(
                "--loss soft has the confidence in its target already: leave --weight-by-confidence out"
            )
        return self

    @property
    def uses_confidence(self) -> bool:
        return self.loss == "soft" or self.weight_by_confidence


def train_dpo(config: DPOConfig, on_log: OnLog | None = None, held_out: Score | None = None) -> Path:
    """Trains a policy on pairs and returns the folder of the model or adapter.

    The reference is the starting model; its log-probabilities come from a cache on disk, which is filled
    before the first step. The loss before that step must be the one that policy = reference gives (sigmoid:
    ln 2 ≈ 0.6931). Raises UsageError, InputError, RunDirectoryError, ModelUnavailableError, GateError.
    """
    config = with_noise_rate(config)
    stage = Stage(
        name="dpo",
        folder="dpo",
        parse=partial(parse_pair, confidence=config.uses_confidence),
        columns=pair_columns,
        build=partial(_build, config),
        first_loss=None
        if config.sft_weight or config.weight_by_confidence
        else loss_at_reference(config.loss, config.beta),
        notes=(UNCALIBRATED,) if config.uses_confidence and not is_calibrated(config.data) else (),
        check=partial(_check_weights, config),
        base_model="refuse",
    )
    return run_stage(config, stage, on_log, held_out)


def loss_at_reference(loss: Loss, beta: float) -> float:
    """The loss where both log-ratios are 0; with an SFT term or weights there is no such value.

    -log σ(0) = ln 2, which is also p ln 2 + (1-p) ln 2 and ((1-e) ln 2 - e ln 2) / (1-2e); (1 / 2β)² for ipo;
    max(0, 1 - 0) for hinge.
    """
    return {"ipo": 1 / (2 * beta) ** 2, "hinge": 1.0}.get(loss, math.log(2))


def with_noise_rate(config: DPOConfig) -> DPOConfig:
    """The config with the rate that its loss needs. Raises UsageError where nothing tells it."""
    if config.loss not in NOISY or config.noise_rate is not None:
        return config
    find_files(config.data, "dpo", config.eval_data)
    return config.model_copy(update={"noise_rate": noise_rate(config.data)})


def _check_weights(config: DPOConfig, rows: list[Row]) -> None:
    if config.weight_by_confidence and all(row.confidence == 0.5 for row in rows):
        raise InputError(
            rows[0].path,
            "every confidence is 0.5, so every weight would be 0",
            fix="other pairs, or no weights",
        )


# ---------------------------------------------------------------------------------------------- the trainer


def pair_columns(row: Row) -> dict[str, Json]:
    chosen, rejected = row.completions
    columns: dict[str, Json] = {
        "prompt": as_trl(row.prompt),
        "chosen": as_trl(chosen),
        "rejected": as_trl(rejected),
    }
    return columns if row.confidence is None else {**columns, "confidence": row.confidence}


def objective(config: DPOConfig, mean_weight: float, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and rewards and log-ratios to log. `mean_weight`: of the training pairs."""
    chosen, rejected = pairs.chosen, pairs.rejected
    per_token = chosen.mean_log_ratio - rejected.mean_log_ratio
    margin = config.beta * (per_token if config.length_normalized else chosen.log_ratio - rejected.log_ratio)
    noise = config.noise_rate or 0.0
    match config.loss:
        case "sigmoid":
            each = losses.sigmoid_loss(margin)
        case "ipo":
            each = losses.ipo_loss(per_token, config.beta)
        case "hinge":
            each = losses.hinge_loss(margin)
        case "robust":
            each = losses.robust_loss(margin, noise)
        case "conservative":
            each = losses.conservative_loss(margin, noise)
        case "soft":
            assert pairs.confidence is not None
            each = losses.soft_label_loss(margin, pairs.confidence)
    if config.weight_by_confidence:
        assert pairs.confidence is not None
        each = each * losses.confidence_weight(pairs.confidence) / mean_weight
    loss = each.mean()
    logged = _logged(config.beta, pairs)
    if config.sft_weight:
        nll = losses.negative_log_likelihood(chosen.log_probs, chosen.tokens)
        loss = loss + config.sft_weight * nll
        logged["nll_loss"] = nll
    return loss, logged


def _logged(beta: float, pairs: Pairs) -> dict[str, Tensor]:
    """TRL's names, and how far both sides have moved: the mean of -log(π / π_ref) over responses that the
    starting model wrote estimates KL(π_ref ‖ π), in nats a response."""
    chosen, rejected = pairs.chosen.log_ratio, pairs.rejected.log_ratio
    return {
        "rewards/chosen": beta * chosen,
        "rewards/rejected": beta * rejected,
        "rewards/accuracies": (chosen > rejected).float(),
        "rewards/margins": beta * (chosen - rejected),
        "logps/chosen": pairs.chosen.log_probs,
        "logps/rejected": pairs.rejected.log_probs,
        "log_ratios/chosen": chosen,
        "log_ratios/rejected": rejected,
        "kl_reference_policy": -(chosen + rejected) / 2,
    }


def _build(config: DPOConfig, setup: Setup) -> tuple[Trainer, dict[str, Json]]:
    import trl

    from trainers.pair_trainer import PairTrainer, Reference

    weights = [2 * p - 1 for p in setup.train["confidence"]] if config.weight_by_confidence else [1.0]
    path = config.reference_cache or default_path()
    with closing(ReferenceCache(path)) as cache:
        trainer = PairTrainer(
            partial(objective, config, sum(weights) / len(weights)),
            Reference(cache, _arithmetic(config, setup)),
            trl.DPOConfig(**setup.arguments, beta=config.beta),
            share_prompt=config.share_prompt,
            group_by_length=config.group_by_length,
            **setup.parts(),
        )
    return trainer, {
        "noise_rate": config.noise_rate,
        "layout": trainer.layout,
        "reference_cache": str(path),
        "reference_log_probs": dict(trainer.reference_counts),
    }


def _arithmetic(config: DPOConfig, setup: Setup) -> dict[str, Json]:
    """All that a log-probability under the starting model depends on, beside the tokens."""
    device = device_arguments(config)
    return {
        "weights": setup.model_hash or hash_weights(setup.model),
        "load_dtype": config.load_dtype,
        "four_bits": config.qlora,
        "cpu": device["use_cpu"],
        "bf16": device["bf16"],
    }

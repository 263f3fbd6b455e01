"""Odds ratio preference optimization: SFT and preference in one loss, no reference (arXiv 2403.07691)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from prefgen.messages import Json
from trainers import preference_losses as losses
from trainers.dpo import PairConfig, pair_columns
from trainers.monitor import OnLog
from trainers.pairs import Pairs
from trainers.rewards import Score
from trainers.rows import parse_pair
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer


class ORPOConfig(PairConfig):
    """Options of `train_orpo`."""

    full_rate: ClassVar[float] = 8e-6
    lora_rate: ClassVar[float] = 8e-5

    odds_weight: float = Field(default=0.1, ge=0)
    """Weight of the odds-ratio term beside the negative log-likelihood; the paper's λ."""
    learn_prompts: bool = False
    """Put the prompt's tokens into the likelihood, as TRL and the authors' code do; the paper's equation has
    the response alone."""


def train_orpo(config: ORPOConfig, on_log: OnLog | None = None, held_out: Score | None = None) -> Path:
    """Trains a model on pairs, without a reference, and returns the folder of the model or adapter.

    Raises UsageError, InputError, RunDirectoryError, ModelUnavailableError, GateError.
    """
    stage = Stage(
        name="orpo",
        folder="dpo",
        parse=parse_pair,
        columns=pair_columns,
        build=partial(_build, config),
        base_model="warn",
    )
    return run_stage(config, stage, on_log, held_out)


def objective(config: ORPOConfig, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, equation 6, and what to log: rewards are λ · mean log-probability, as in TRL."""
    chosen, rejected = pairs.chosen, pairs.rejected
    log_probs, tokens = chosen.log_probs, chosen.tokens
    if config.learn_prompts:
        log_probs, tokens = log_probs + pairs.prompt.log_probs, tokens + pairs.prompt.tokens
    nll = losses.negative_log_likelihood(log_probs, tokens)
    odds_loss = losses.odds_ratio_loss(chosen.mean, rejected.mean)
    return nll + config.odds_weight * odds_loss.mean(), {
        "nll_loss": nll,
        "log_odds_ratio": -odds_loss,
        "log_odds_chosen": losses.log_odds_ratio(chosen.mean, rejected.mean),
        "rewards/chosen": config.odds_weight * chosen.mean,
        "rewards/rejected": config.odds_weight * rejected.mean,
        "rewards/accuracies": (chosen.mean > rejected.mean).float(),
        "rewards/margins": config.odds_weight * (chosen.mean - rejected.mean),
        "logps/chosen": chosen.mean,
        "logps/rejected": rejected.mean,
    }


def _build(config: ORPOConfig, setup: Setup) -> tuple[Trainer, dict[str, Json]]:
    import trl

    from trainers.pair_trainer import PairTrainer

    trainer = PairTrainer(
        partial(objective, config),
        None,
        trl.DPOConfig(**setup.arguments),
        share_prompt=config.share_prompt,
        group_by_length=config.group_by_length,
        score_prompt=config.learn_prompts,
        **setup.parts(),
    )
    return trainer, {"layout": trainer.layout}

"""The training stages a round may take: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainers.config import StageConfig
from trainers.dpo import DPOConfig, train_dpo
from trainers.grpo import GRPOConfig, train_grpo
from trainers.kto import KTOConfig, train_kto
from trainers.orpo import ORPOConfig, train_orpo
from trainers.ppo import PPOConfig, train_ppo
from trainers.sft import SFTConfig, train_sft

Rows = Literal["pairs", "labels", "prompts"]


@dataclass(frozen=True, slots=True)
class LoopStage:
    """`rows`: what it learns from: pairs, labelled responses, or prompts to sample from by itself (`train`
    then takes `rewards`). Each takes the held-out judge as `held_out`."""

    config: type[StageConfig]
    train: Callable[..., Path]
    rows: Rows = "pairs"

    @property
    def online(self) -> bool:
        return self.rows == "prompts"


STAGES: dict[str, LoopStage] = {
    "dpo": LoopStage(DPOConfig, train_dpo),
    "kto": LoopStage(KTOConfig, train_kto, rows="labels"),
    "orpo": LoopStage(ORPOConfig, train_orpo),
    "sft": LoopStage(SFTConfig, train_sft),
    "grpo": LoopStage(GRPOConfig, train_grpo, rows="prompts"),
    "ppo": LoopStage(PPOConfig, train_ppo, rows="prompts"),
}


def names(stages: Mapping[str, LoopStage] = STAGES) -> str:
    return ", ".join(stages)

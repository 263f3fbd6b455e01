"""The stages of `prefgen train`: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.reward_models import RewardModelConfig, train_reward_models
from pipelines.rewards_config import RewardsConfig
from trainers.config import StageConfig
from trainers.dpo import DPOConfig, train_dpo
from trainers.grpo import GRPOConfig, train_grpo
from trainers.kto import KTOConfig, train_kto
from trainers.monitor import OnLog
from trainers.orpo import ORPOConfig, train_orpo
from trainers.ppo import PPOConfig, train_ppo
from trainers.sft import SFTConfig, train_sft


@dataclass(frozen=True, slots=True)
class TrainStage:
    """`data`: what stands after --data in the example. `online`: it learns from rewards of its own responses:
    `run(config, rewards, on_log)`."""

    config: type[StageConfig]
    run: Callable[..., Path]
    about: str
    data: str = "runs/first"
    online: bool = False

    @property
    def configs(self) -> tuple[type[StageConfig]] | tuple[type[StageConfig], type[RewardsConfig]]:
        """Whose options the stage takes."""
        return (self.config, RewardsConfig) if self.online else (self.config,)

    def train(
        self,
        config: StageConfig,
        rewards: RewardsConfig | None,
        console: Console,
        *,
        check_vllm: bool = False,
        on_log: OnLog | None = None,
    ) -> tuple[dict[str, Any], str]:
        """See `pipelines.train.train_stage`. `rewards`: of an online stage."""
        from pipelines.online import beside_judges
        from pipelines.train import train_stage

        run = self.run if rewards is None else beside_judges(self.run, rewards, console)
        online = rewards is not None
        return train_stage(run, config, console, online=online, check_vllm=check_vllm, on_log=on_log)


STAGES: dict[str, TrainStage] = {
    "sft": TrainStage(
        SFTConfig,
        train_sft,
        "Supervised fine-tuning on demonstrations, or on the chosen side of a run.",
        "demonstrations.jsonl",
    ),
    "reward": TrainStage(
        RewardModelConfig,
        train_reward_models,
        "A reward model from pairs (Bradley-Terry), or several of them to be used as one.",
    ),
    "dpo": TrainStage(DPOConfig, train_dpo, "Direct preference optimization on pairs.", "runs/first --lora"),
    "kto": TrainStage(KTOConfig, train_kto, "Kahneman-Tversky optimization on single labelled responses."),
    "orpo": TrainStage(
        ORPOConfig,
        train_orpo,
        "Odds ratio preference optimization on pairs: SFT and preference in one, without a reference.",
    ),
    "grpo": TrainStage(
        GRPOConfig,
        train_grpo,
        "Group relative policy optimization on rewards of the policy's own responses.",
        "prompts.jsonl --judge openai/NAME --constitution support-tone",
        online=True,
    ),
    "ppo": TrainStage(
        PPOConfig,
        train_ppo,
        "Proximal policy optimization on rewards of the policy's own responses, with a value function.",
        "prompts.jsonl --reward-model transformers/PATH --lora",
        online=True,
    ),
}

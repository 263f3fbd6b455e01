"""prefgen train: one command a stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipelines.commands.shared import common, wait_for
from pipelines.console import Console
from pipelines.helping import Group, own_fields
from pipelines.launching import relaunch
from pipelines.options import build, options_of
from pipelines.reward_models import RewardModelConfig, train_reward_models
from pipelines.rewards_config import RewardsConfig
from pipelines.sweep_config import SweepConfig
from trainers.config import StageConfig
from trainers.dpo import DPOConfig, train_dpo
from trainers.grpo import GRPOConfig, train_grpo
from trainers.kto import KTOConfig, train_kto
from trainers.orpo import ORPOConfig, train_orpo
from trainers.ppo import PPOConfig, train_ppo
from trainers.sft import SFTConfig, train_sft

Stage = Callable[..., Path]
COMMON = ("model", "data", "out", "epochs", "batch_size", "learning_rate", "lora", "seed")
"""What --help of every stage shows, beside what the stage alone has and how it is run."""
REWARDS = ("judge", "reward_model", "reward_function", "judging", "constitution")
SHOWN = {
    "grpo": ("group_size", "max_new_tokens", "beta"),
    "ppo": ("rollout_batch_size", "max_new_tokens", "kl_coef"),
}
"""Of the options that an online stage alone has, which are many."""
SWEEP = ("judge", "reward_model", "constitution")


@click.group(cls=Group)
def train() -> None:
    """Train a model: sft, reward, dpo, kto, orpo, grpo or ppo."""


def _add_stage(name: str, config: type[StageConfig], run: Stage, help_text: str) -> None:
    @train.command(name, help=help_text)
    @options_of(config, common=(*COMMON, *own_fields(config)))
    @click.option(
        "--check-vllm", is_flag=True, help="Afterwards compare vLLM with transformers on the model."
    )
    @common
    def stage(check_vllm: bool, as_json: bool, quiet: bool, **given: Any) -> None:
        from pipelines.train import train_stage

        built = build(config, given)
        relaunch(built)
        console = Console(as_json=as_json, quiet=quiet)
        result, text = train_stage(run, built, console, check_vllm=check_vllm)
        console.result(result, text)


def _add_online_stage(name: str, config: type[StageConfig], run: Stage, help_text: str) -> None:
    """A stage that learns from rewards of its own responses: `run(config, rewards, on_log)`."""

    @train.command(name, help=help_text)
    @options_of(config, RewardsConfig, common=(*COMMON, *REWARDS, *SHOWN.get(name, own_fields(config))))
    @click.option(
        "--check-vllm", is_flag=True, help="Afterwards compare vLLM with transformers on the model."
    )
    @common
    def stage(check_vllm: bool, as_json: bool, quiet: bool, **given: Any) -> None:
        from pipelines.online import beside_judges
        from pipelines.train import train_stage

        built = build(config, given, RewardsConfig)
        relaunch(built)
        rewards = build(RewardsConfig, given, config)
        console = Console(as_json=as_json, quiet=quiet)
        beside = beside_judges(run, rewards, console)
        result, text = train_stage(beside, built, console, online=True, check_vllm=check_vllm)
        console.result(result, text)


_EXAMPLE = "\n\n\b\nprefgen train {stage} --model PATH_OR_ID --data {data} --out models/{stage}"
_add_stage(
    "sft",
    SFTConfig,
    train_sft,
    "Supervised fine-tuning on demonstrations, or on the chosen side of a run."
    + _EXAMPLE.format(stage="sft", data="demonstrations.jsonl"),
)
_add_stage(
    "reward",
    RewardModelConfig,
    train_reward_models,
    "A reward model from pairs (Bradley-Terry), or several of them to be used as one."
    + _EXAMPLE.format(stage="reward", data="runs/first"),
)
_add_stage(
    "dpo",
    DPOConfig,
    train_dpo,
    "Direct preference optimization on pairs." + _EXAMPLE.format(stage="dpo", data="runs/first --lora"),
)
_add_stage(
    "kto",
    KTOConfig,
    train_kto,
    "Kahneman-Tversky optimization on single labelled responses."
    + _EXAMPLE.format(stage="kto", data="runs/first"),
)
_add_stage(
    "orpo",
    ORPOConfig,
    train_orpo,
    "Odds ratio preference optimization on pairs: SFT and preference in one, without a reference."
    + _EXAMPLE.format(stage="orpo", data="runs/first"),
)


@train.command("dpo-sweep")
@options_of(SweepConfig, skip=("beta",), common=(*COMMON, *SWEEP, *own_fields(SweepConfig)))
@common
def dpo_sweep(as_json: bool, quiet: bool, **given: Any) -> None:
    """DPO with several β: held-out margin, KL to the start, and with a judge the win rate over the start.

    \b
    prefgen train dpo-sweep --model PATH --data runs/first --sweep-beta 0.03 --sweep-beta 0.1 --sweep-beta 0.3
      --judge openai/NAME --out models/sweep
    """
    from pipelines.sweep import sweep, sweep_summary

    config = build(SweepConfig, given)
    console = Console(as_json=as_json, quiet=quiet)
    result = wait_for(sweep(config, console))
    console.result(result, sweep_summary(result, config.out))


_add_online_stage(
    "grpo",
    GRPOConfig,
    train_grpo,
    "Group relative policy optimization on rewards of the policy's own responses."
    + _EXAMPLE.format(stage="grpo", data="prompts.jsonl --judge openai/NAME --constitution support-tone"),
)
_add_online_stage(
    "ppo",
    PPOConfig,
    train_ppo,
    "Proximal policy optimization on rewards of the policy's own responses, with a value function."
    + _EXAMPLE.format(stage="ppo", data="prompts.jsonl --reward-model transformers/PATH --lora"),
)

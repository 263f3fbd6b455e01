"""prefgen train: one command a stage."""

from __future__ import annotations

from typing import Any

import click

from pipelines.commands.shared import common, wait_for
from pipelines.console import Console
from pipelines.helping import Group, own_fields
from pipelines.launching import relaunch
from pipelines.options import build, options_of
from pipelines.rewards_config import RewardsConfig
from pipelines.sweep_config import SweepConfig
from pipelines.train_stages import STAGES, TrainStage

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


def _add(name: str, stage: TrainStage) -> None:
    example = f"prefgen train {name} --model PATH_OR_ID --data {stage.data} --out models/{name}"
    shown = (*COMMON, *(REWARDS if stage.online else ()), *SHOWN.get(name, own_fields(stage.config)))

    @train.command(name, help=f"{stage.about}\n\n\b\n{example}")
    @options_of(*stage.configs, common=shown)
    @click.option(
        "--check-vllm", is_flag=True, help="Afterwards compare vLLM with transformers on the model."
    )
    @common
    def command(check_vllm: bool, as_json: bool, quiet: bool, **given: Any) -> None:
        config = build(stage.config, given, *stage.configs[1:])
        relaunch(config)
        rewards = build(RewardsConfig, given, stage.config) if stage.online else None
        console = Console(as_json=as_json, quiet=quiet)
        result, text = stage.train(config, rewards, console, check_vllm=check_vllm)
        console.result(result, text)


for _name, _stage in STAGES.items():
    _add(_name, _stage)


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

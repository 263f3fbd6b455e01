"""PPO as a stage: from options and rewards to a trained policy in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prefgen.errors import UsageError
from prefgen.messages import Json
from trainers.loading import check_machine, end_tokens
from trainers.monitor import OnLog
from trainers.ppo.config import PPOConfig
from trainers.ppo.networks import Networks, SeparateModels, SharedBackbone
from trainers.ppo.rollout import Engine, Sampler, TransformersSampler, VLLMSampler, choose_engine
from trainers.ppo.trainer import PPOTrainer, Task, World
from trainers.preflight import encode
from trainers.rewards import Reward, Sample, Score, reward_inputs
from trainers.rows import Row, as_trl, distinct_prompts, parse_prompt
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase


def train_ppo(
    config: PPOConfig,
    rewards: Sequence[Reward],
    on_log: OnLog | None = None,
    held_out: Score | None = None,
) -> Path:
    """Trains a policy on rewards of what it writes and returns the folder of the model or adapter.

    `rewards`: their weighted sum is the score of a response; a response without one teaches nothing.
    The value function goes to OUT/value.
    Raises GateError where too many responses have no score, and UsageError, InputError, RunDirectoryError,
    ModelUnavailableError.
    """
    if not rewards:
        raise UsageError("ppo needs at least one reward")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("ppo runs in one process: start it without accelerate launch or torchrun")
    check_machine(config)
    engine = choose_engine(config)
    with ExitStack() as stack:
        stage = Stage(
            name="ppo",
            folder="dpo",
            parse=parse_prompt,
            columns=_columns,
            build=partial(_build, config, rewards, engine, stack),
            reference=True,
            reserve=config.max_new_tokens,
            arrange=distinct_prompts,
            left_out="same_prompt",
            inputs=reward_inputs(rewards),
            goal="objective/scores",
            base_model="refuse",
        )
        return run_stage(config, stage, on_log, held_out)


def _columns(row: Row) -> dict[str, Json]:
    return {"prompt": as_trl(row.prompt)}


def _build(
    config: PPOConfig,
    rewards: Sequence[Reward],
    engine: Engine,
    stack: ExitStack,
    setup: Setup,
) -> tuple[PPOTrainer, dict[str, Json]]:
    """The trainer, and the settings worth reporting. `stack`: closes the engine in the end."""
    import transformers
    from accelerate import Accelerator

    arguments = {name: value for name, value in setup.arguments.items() if name != "max_length"}
    args = transformers.TrainingArguments(**arguments)
    accelerator = Accelerator(mixed_precision="bf16" if args.bf16 else "no", cpu=args.use_cpu)
    networks = _networks(setup, accelerator.device)
    ends = end_tokens(config.model, setup.tokenizer)
    sampler = _sampler(config, engine, networks, ends, setup, accelerator, stack)
    world = World(
        tasks=[_task(row, setup.tokenizer) for row in setup.rows],
        eval_tasks=[_task(row, setup.tokenizer) for row in setup.eval_rows],
        rewards=rewards,
        tokenizer=setup.tokenizer,
        ends=ends,
    )
    trainer = PPOTrainer(config, world, networks, sampler, args, accelerator, setup.callbacks)
    return trainer, {
        "rollouts": engine.name,
        "rollouts_reason": engine.reason,
        "minibatch_size": config.minibatch_size,
        "value_learning_rate": config.value_rate,
    }


def _networks(setup: Setup, device: torch.device) -> Networks:
    if setup.adapter is not None:
        # Weights in 4 bits are on their device already, and must not be moved.
        four_bits = getattr(setup.model, "is_loaded_in_4bit", False)
        return SharedBackbone(setup.model if four_bits else setup.model.to(device), setup.adapter)
    assert setup.reference is not None
    return SeparateModels(setup.model.to(device), setup.reference.to(device))


def _sampler(
    config: PPOConfig,
    engine: Engine,
    networks: Networks,
    ends: frozenset[int],
    setup: Setup,
    accelerator: Accelerator,
    stack: ExitStack,
) -> Sampler:
    if engine.name == "transformers":
        pad = setup.tokenizer.pad_token_id
        return TransformersSampler(config, networks, ends, pad, accelerator.autocast)
    sampler = VLLMSampler(config, networks, ends)
    stack.callback(sampler.close)
    return sampler


def _task(row: Row, tokenizer: PreTrainedTokenizerBase) -> Task:
    assert not isinstance(row.prompt, str)  # parse_prompt makes turns of a string
    return Task(encode(row, tokenizer).prompt, Sample(row.prompt, "", columns=row.columns))

"""Group relative policy optimization: Shao et al. 2024, arXiv 2402.03300; losses dapo (Yu et al. 2025, arXiv
2503.14476) and dr_grpo (Liu et al. 2025, arXiv 2503.20783).

The policy answers each prompt several times; a response is reinforced by how far its reward lies above the
mean of its group. There is no value model. What could not be scored is left out: of its group's mean and
spread, and of the loss.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field, model_validator

from prefgen.errors import UsageError
from prefgen.messages import Json, parse_messages
from trainers import processes
from trainers.config import StageConfig
from trainers.loading import end_tokens
from trainers.monitor import Line, OnLog
from trainers.rewards import (
    Reward,
    Sample,
    Score,
    length_correlation,
    reward_inputs,
    score_each,
    weighted_sum,
)
from trainers.rows import Row, as_trl, distinct_prompts, parse_prompt
from trainers.run import run_stage
from trainers.stage import Setup, Stage

if TYPE_CHECKING:
    from transformers import Trainer

SMALL_GROUP = 8
"""Below it, groups of binary or noisy rewards often agree and teach nothing."""
MANY_EQUAL = 0.5
"""Share of groups without spread from which on a run is warned about."""


class GRPOConfig(StageConfig):
    """Options of `train_grpo`."""

    full_rate: ClassVar[float] = 1e-6
    lora_rate: ClassVar[float] = 1e-5

    batch_size: int = Field(default=8, ge=1)
    """Most responses in one forward pass; memory grows with it."""
    gradient_accumulation: int = Field(default=8, ge=1)
    """Forward passes a step. Batch size times this is the number of responses sampled for one step, rounded
    up to whole groups."""
    group_size: int = Field(default=8, ge=2)
    """Responses to each prompt, whose rewards are compared with each other."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Most tokens of a response; prompt and response together stay within --max-length."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; below 1 the responses of a group differ less and teach less."""
    beta: float = Field(default=0.04, ge=0)
    """Weight of the KL divergence from the starting model; 0 saves its memory, where no reward is gamed."""
    loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    """Form of the loss. dapo is the mean over all tokens of a step; grpo the mean over responses of their
    means, which favours short good and long bad ones; dr_grpo divides by --max-new-tokens in place of the
    length."""
    epsilon: float = Field(default=0.2, gt=0)
    """How far a token's probability may move from what it was sampled with before its gradient is cut."""
    epsilon_high: float | None = Field(default=None, gt=0)
    """The same upwards, where it differs (DAPO: 0.28)."""
    num_iterations: int = Field(default=1, ge=1)
    """Optimizer steps on the same responses."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide by the standard deviation of the group, of the whole step, or not at all (dr_grpo's advice)."""
    mask_truncated: bool = False
    """Leave responses cut by --max-new-tokens out of the loss; their rewards still count in the group."""
    rollouts: Literal["transformers", "vllm"] = "transformers"
    """What samples the responses; vllm shares the GPU with training and needs CUDA."""
    vllm_memory: float = Field(default=0.3, gt=0, lt=1)
    """Share of the GPU's memory for vLLM."""
    eval_samples: int = Field(default=1, ge=1)
    """Responses to each held-out prompt in an evaluation."""

    @model_validator(mode="after")
    def _check_steps(self) -> GRPOConfig:
        for name in ("save_steps", "eval_steps"):
            steps = getattr(self, name)
            if steps and steps % self.num_iterations:
                raise UsageError(
                    f"--{name.replace('_', '-')} {steps} has to be a multiple of --num-iterations "
                    f"({self.num_iterations}): between two samplings a run cannot be resumed exactly"
                )
        return self


def train_grpo(
    config: GRPOConfig,
    rewards: Sequence[Reward],
    on_log: OnLog | None = None,
    held_out: Score | None = None,
) -> Path:
    """Trains a policy on the rewards of its own responses and returns the folder of the model or adapter.

    A run directory (or any file with a column prompt) gives its distinct prompts. Raises UsageError,
    InputError, RunDirectoryError, ModelUnavailableError, GateError, and what the rewards raise.
    """
    if not rewards:
        raise UsageError("grpo needs at least one reward")
    if config.rollouts == "vllm":
        _check_vllm()
    stage = Stage(
        name="grpo",
        folder="dpo",
        parse=parse_prompt,
        columns=_columns,
        build=partial(_build, config, rewards),
        reserve=config.max_new_tokens,
        arrange=distinct_prompts,
        left_out="same_prompt",
        inputs=reward_inputs(rewards),
        goal="reward",
        review=review,
        base_model="refuse",
    )
    return run_stage(config, stage, on_log, held_out)


def _check_vllm() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "--rollouts vllm needs a CUDA device: on the CPU vLLM cannot take over weights while they are "
            "trained; use --rollouts transformers"
        )


def _columns(row: Row) -> dict[str, Json]:
    # One column of text, since the values of a file's columns need not be of one type.
    return {"prompt": as_trl(row.prompt), "columns": json.dumps(dict(row.columns), default=str)}


def review(lines: Sequence[Line]) -> list[str]:
    """Warns of groups that taught nothing and of responses that could not be scored."""
    equal, unscored = (_mean(lines, name) for name in ("frac_reward_zero_std", "rewards/unscored"))
    found = []
    if equal > MANY_EQUAL:
        found.append(
            f"in {equal:.0%} of the groups all rewards were equal, which teaches nothing: raise --group-size "
            "or --temperature, or use a reward that tells responses apart"
        )
    if unscored > 0:
        found.append(f"{unscored:.1%} of the responses could not be scored and were left out")
    return found


def _mean(lines: Sequence[Line], name: str) -> float:
    values = [line[name] for line in lines if line["split"] == "train" and line.get(name) is not None]
    return fmean(cast("list[float]", values)) if values else 0.0


# ------------------------------------------------------------------------------------------ batches and steps


@dataclass(frozen=True, slots=True)
class Batch:
    """`forward`: responses in one forward pass; `passes`: of them a step; `groups`: prompts a step."""

    forward: int
    passes: int
    groups: int


def fit_batch(batch_size: int, passes: int, group_size: int, prompts: int) -> Batch:
    """The smallest number of whole groups with at least `batch_size` * `passes` responses, but no more groups
    than there are prompts; in forward passes of equal size, none above `batch_size`."""
    groups = min(prompts, math.ceil(batch_size * passes / group_size))
    responses = groups * group_size
    forward = next(size for size in range(min(batch_size, responses), 0, -1) if responses % size == 0)
    return Batch(forward, responses // forward, groups)


def interval(steps: float, total: int, num_iterations: int) -> int:
    """Steps, or a share of `total` when below 1, rounded up to where new responses are sampled."""
    wanted = math.ceil(steps * total) if steps < 1 else int(steps)
    return max(1, math.ceil(wanted / num_iterations)) * num_iterations


def _build(config: GRPOConfig, rewards: Sequence[Reward], setup: Setup) -> tuple[Trainer, dict[str, Json]]:
    import trl

    # Each process samples for prompts of its own.
    prompts = len(setup.train) // processes.count()
    if not prompts:
        raise UsageError(f"{len(setup.train)} prompts are fewer than the {processes.count()} processes")
    batch = fit_batch(config.batch_size, config.gradient_accumulation, config.group_size, prompts)
    setup.notes.extend(_notes(config, batch, prompts))
    arguments = trl.GRPOConfig(**_arguments(config, batch, setup))
    ends = end_tokens(config.model, setup.tokenizer)
    parts = {name: part for name, part in setup.parts().items() if name != "train_dataset"}
    trainer = masking_trainer()(
        **parts, train_dataset=setup.train, reward_funcs=[scoring(rewards, ends)], args=arguments
    )
    if trainer.ref_model is not None:
        # TRL loads it from the path of the starting model, which nobody writes to.
        trainer.ref_model.requires_grad_(False)
    return trainer, {
        "group_size": config.group_size,
        "groups_per_step": batch.groups * processes.count(),
        "responses_per_step": batch.groups * config.group_size * processes.count(),
        "forward_batch": batch.forward,
        "gradient_accumulation": batch.passes,
        "rollouts": config.rollouts,
    }


def _notes(config: GRPOConfig, batch: Batch, prompts: int) -> list[str]:
    wanted, taken = config.batch_size * config.gradient_accumulation, batch.groups * config.group_size
    found = []
    if config.group_size < SMALL_GROUP:
        found.append(
            f"--group-size {config.group_size} is small: groups whose rewards are all equal teach nothing, "
            f"and the fewer responses the more of them ({SMALL_GROUP} or more are usual)"
        )
    if taken != wanted:
        found.append(
            f"a step takes {taken} responses ({batch.groups} prompts of {config.group_size}, in "
            f"{batch.passes} passes of {batch.forward}) in place of {wanted}, to have whole groups"
            + (f" of {prompts} prompts" if taken < wanted else "")
        )
    return found


def _arguments(config: GRPOConfig, batch: Batch, setup: Setup) -> dict[str, object]:
    """For TRL's config: one sampling a step (or `num_iterations` steps), whole groups in each."""
    total = config.max_steps or math.ceil(
        config.epochs * (len(setup.train) // (batch.groups * processes.count())) * config.num_iterations
    )
    arguments = setup.arguments | {
        "per_device_train_batch_size": batch.forward,
        "per_device_eval_batch_size": config.eval_samples * max(1, config.batch_size // config.eval_samples),
        "gradient_accumulation_steps": batch.passes,
        "num_generations": config.group_size,
        "num_generations_eval": config.eval_samples,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "beta": config.beta,
        "loss_type": config.loss,
        "epsilon": config.epsilon,
        "epsilon_high": config.epsilon_high,
        "num_iterations": config.num_iterations,
        "scale_rewards": config.scale_rewards,
        "mask_truncated_completions": config.mask_truncated,
    }
    length = arguments.pop("max_length")
    for name in {"save_steps", "eval_steps"} & arguments.keys():
        arguments[name] = interval(cast(float, arguments[name]), total, config.num_iterations)
    if "metric_for_best_model" in arguments:
        # The loss of GRPO is about 0 whatever the policy is worth.
        arguments |= {"metric_for_best_model": "eval_reward", "greater_is_better": True}
    if config.rollouts == "vllm":
        arguments |= {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": config.vllm_memory,
            "vllm_max_model_length": length,
        }
    return arguments


# ---------------------------------------------------------------------------------------- rewards and masking


def scoring(rewards: Sequence[Reward], ends: Collection[int]) -> Callable[..., list[float | None]]:
    """All rewards as one of TRL's reward functions. `ends`: token ids that end a response.

    One, because TRL sums what the functions it is given have said, so that a response of which one of them
    failed would get that one's share as 0.
    """

    def total(
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[list[int]],
        columns: list[str],
        log_metric: Callable[[str, float], None],
        **others: object,
    ) -> list[float | None]:
        samples = [
            Sample(
                parse_messages(prompt),
                completion[0]["content"],
                bool(ids) and ids[-1] in ends,
                json.loads(row),
            )
            for prompt, completion, ids, row in zip(
                prompts, completions, completion_ids, columns, strict=True
            )
        ]
        told = score_each(rewards, samples)
        scores = weighted_sum(rewards, told)
        numbers = reward_metrics(rewards, told, scores)
        lengths = [len(ids) for ids in completion_ids]
        told_by_length = length_correlation(scores, lengths, [sample.prompt for sample in samples])
        if told_by_length is not None:
            numbers["reward_length_correlation"] = told_by_length
        for name, value in numbers.items():
            log_metric(name, value)
        return scores

    return total


def reward_metrics(
    rewards: Sequence[Reward], told: Sequence[Sequence[float | None]], scores: Sequence[float | None]
) -> dict[str, float]:
    """The mean of each reward over what it scored, before its weight, and the share without a sum."""
    known = {
        reward.name: [score for score in given if score is not None]
        for reward, given in zip(rewards, told, strict=True)
    }
    means = {f"rewards/{name}/mean": fmean(values) for name, values in known.items() if values}
    return {**means, "rewards/unscored": sum(score is None for score in scores) / len(scores)}


def masking_trainer() -> type[Any]:
    """TRL's trainer, for which a response without a reward does not exist.

    TRL leaves it out of its group's mean and spread and sets its advantage to 0, but lets it count in the
    loss: its KL divergence, and its tokens (dapo) or itself (grpo, dr_grpo) in what the loss is divided by.
    """
    import torch

    with warnings.catch_warnings():
        # Said at import of the newest vLLM, which samples nothing here unless asked to.
        warnings.filterwarnings("ignore", message="TRL currently supports vLLM")
        from trl import GRPOTrainer

    class MaskingGRPOTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL is untyped here
        def _calculate_rewards(self, *args: Any) -> Any:
            # A judge in this process may draw random numbers; a resumed run finds its answers in the ledger.
            with torch.random.fork_rng():
                rewards = super()._calculate_rewards(*args)
            self._scored = ~torch.isnan(rewards).all(dim=1)
            return rewards

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            output = super()._generate_and_score_completions(inputs)
            if not self._scored.all():
                count = len(inputs)
                mine = self._scored[self.accelerator.process_index * count :][:count]
                # TRL's mask of tokens that are attended to but not trained on.
                mask = mine.unsqueeze(1).to(output["completion_mask"]).expand_as(output["completion_mask"])
                output["tool_mask"] = mask
                tokens = (output["completion_mask"] * mask).sum()
                output["num_items_in_batch"] = self.accelerator.gather(tokens).sum()
                output["scored_share"] = self._scored.float().mean()
            return output

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            loss = super()._compute_loss(model, inputs)
            if "scored_share" in inputs and self.loss_type in ("grpo", "dr_grpo"):
                # Where nothing was scored the loss is 0 already.
                loss = loss / inputs["scored_share"].clamp(min=1e-6)
            return loss

    return MaskingGRPOTrainer

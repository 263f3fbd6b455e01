"""Options of `train_ppo`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from prefgen.errors import UsageError
from trainers.config import StageConfig


class PPOConfig(StageConfig):
    """A step of this stage is one batch of rollouts with all the updates made on it; steps, intervals and
    the learning-rate schedule count these."""

    full_rate: ClassVar[float] = 1e-6
    lora_rate: ClassVar[float] = 2e-5

    rollout_batch_size: int = Field(default=64, ge=1)
    """Responses sampled, one a prompt, before the policy is updated on them; one step of this stage."""
    ppo_epochs: int = Field(default=4, ge=1)
    """Passes over a batch of rollouts; optimizer steps take --batch-size x --gradient-accumulation each."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Most tokens of a response; they count in --max-length, and what is longer is cut and not finished."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the sampling, and of the distributions that the loss and the KL compare."""
    rollouts: Literal["auto", "vllm", "transformers"] = "auto"
    """Who writes the responses; auto is vLLM on CUDA where it is installed, and transformers on the CPU."""
    rollout_memory: float = Field(default=0.3, gt=0, lt=1)
    """Share of the GPU's memory that vLLM may take beside the training; not used on the CPU."""

    kl_coef: float = Field(default=0.05, ge=0)
    """Reward taken away for each nat that a token is likelier than under the starting model."""
    kl_target: float | None = Field(default=None, gt=0)
    """KL to the starting model, in nats a response, that the coefficient adapts to; unset, it is fixed."""
    kl_horizon: int = Field(default=1000, ge=1)
    """Samples in which an adaptive coefficient can change by a fifth; larger is slower."""
    target_kl: float | None = Field(default=None, gt=0)
    """End the passes over a batch when the policy is this many nats a token from the one that wrote it."""
    clip_range: float = Field(default=0.2, gt=0, lt=1)
    """How far the probability ratio of a token may leave 1 before it stops to count."""
    value_clip_range: float = Field(default=0.2, gt=0)
    """How far a value may leave its old one in a batch before it stops to count, in units of reward."""
    vf_coef: float = Field(default=0.5, ge=0)
    """Weight of the value loss."""
    value_learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of the value function; unset, ten times the policy's."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of a token; 1 counts the score at the end in full from the first token on."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """Lambda of the advantage estimate: 1 trusts the rewards alone, 0 the value function."""
    whiten_rewards: bool = False
    """Scale the rewards of a batch to a variance of 1, for rewards of an odd scale; their mean stays."""
    missing_eos_penalty: float = Field(default=1.0, ge=0)
    """Taken from the score of a response that the token limit cut."""
    max_failure_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the samples that may stay without a score before the run stops with exit code 3."""

    @model_validator(mode="after")
    def _check_rollouts(self) -> PPOConfig:
        if self.rollout_batch_size < self.minibatch_size:
            raise UsageError(
                f"an optimizer step takes --batch-size x --gradient-accumulation = {self.minibatch_size} "
                f"responses, but --rollout-batch-size gives it only {self.rollout_batch_size}"
            )
        if self.max_new_tokens >= self.max_length:
            raise UsageError(
                f"--max-length {self.max_length} holds prompt and response, so it has to be above "
                f"--max-new-tokens {self.max_new_tokens}"
            )
        if self.accelerate is not None:
            raise UsageError("ppo runs in one process: leave --accelerate out")
        if self.early_stopping_patience:
            raise UsageError("this stage has no held-out loss, so it takes no --early-stopping-patience")
        if self.qlora and self.rollouts == "vllm":
            raise UsageError(
                "with --qlora the weights are in 4 bits, which vLLM cannot be given: use --rollouts "
                "transformers"
            )
        if self.kl_target and not self.kl_coef:
            raise UsageError("--kl-target adapts --kl-coef by factors, so it has to start above 0")
        if self.kl_target and self.rollout_batch_size > self.kl_horizon:
            raise UsageError(
                f"--kl-horizon {self.kl_horizon} is below --rollout-batch-size {self.rollout_batch_size}: "
                "the KL coefficient would jump; raise it"
            )
        return self

    @property
    def minibatch_size(self) -> int:
        """Responses of an optimizer step."""
        return self.batch_size * self.gradient_accumulation

    @property
    def value_rate(self) -> float:
        """The peak learning rate of the value function in use."""
        return self.value_learning_rate or 10 * self.rate

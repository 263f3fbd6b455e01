"""What a batch of rollouts teaches: log-probabilities, values, advantages and returns of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.ppo import objective
from trainers.ppo.config import PPOConfig
from trainers.ppo.rollout import Rollouts

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Measured:
    """Of each token of a response, (responses, tokens): its log-probability under the policy that wrote it
    and under the reference, and the value of the state before it."""

    log_probs: Tensor
    reference: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Experience:
    """Rollouts with what the updates need of each token, (responses, tokens)."""

    rollouts: Rollouts
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def select(self, places: Sequence[int]) -> Experience:
        """Some of the responses, without the columns that are padding in all of them."""
        rows, rollouts = list(places), self.rollouts.select(places)
        width = rollouts.mask.shape[1]
        return Experience(
            rollouts,
            self.log_probs[rows, :width],
            self.values[rows, :width],
            self.advantages[rows, :width],
            self.returns[rows, :width],
        )


def learn_from(
    rollouts: Rollouts, measured: Measured, scores: Sequence[float], kl_coef: float, config: PPOConfig
) -> tuple[Experience, dict[str, float]]:
    """The experience of scored rollouts, and what they say of the policy.

    `objective/kl` is the sum over a response of the k1 estimate, in nats, as the reward has it;
    `objective/kl_k3` the same by k3, which is never negative. `objective/scores` are as they were given,
    `objective/rlhf_reward` has the penalties for KL and for missing ends in it.
    """
    import torch

    mask = rollouts.mask
    given = torch.tensor(scores, device=mask.device, dtype=torch.float32)
    penalized = objective.penalize_unfinished(given, rollouts.finished, config.missing_eos_penalty)
    kl = objective.kl_k1(measured.log_probs, measured.reference) * mask
    rewards = objective.token_rewards(penalized, kl, mask, kl_coef)
    total = rewards.sum(1)
    if config.whiten_rewards:
        rewards = objective.whiten(rewards, mask, shift_mean=False)
    advantages, returns = objective.generalized_advantages(
        rewards, measured.values, mask, config.gamma, config.lam
    )
    numbers = {
        **describe_kl(measured, mask),
        "objective/kl_coef": kl_coef,
        "objective/scores": float(given.mean()),
        "objective/scores_std": float(given.std(correction=0)),
        "objective/non_score_reward": float((total - given).mean()),
        "objective/rlhf_reward": float(total.mean()),
        "value/explained_variance": float(objective.explained_variance(measured.values, returns, mask)),
    }
    whitened = objective.whiten(advantages, mask)
    return Experience(rollouts, measured.log_probs, measured.values, whitened, returns), numbers


def describe_kl(measured: Measured, mask: Tensor) -> dict[str, float]:
    """KL of the policy to the reference in nats a response, by both estimators."""
    k1 = objective.kl_k1(measured.log_probs, measured.reference) * mask
    k3 = objective.kl_k3(measured.log_probs, measured.reference) * mask
    return {"objective/kl": float(k1.sum(1).mean()), "objective/kl_k3": float(k3.sum(1).mean())}


def describe_text(rollouts: Rollouts) -> dict[str, float]:
    """Mean length in tokens, and the share of the responses that ended by themselves."""
    return {
        "completions/mean_length": float(rollouts.mask.sum(1).mean()),
        "completions/finished": float(rollouts.finished.float().mean()),
    }

"""Forward and backward passes: what the networks say of rollouts, and the clipped updates on them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from trainers.loading import disable_dropout
from trainers.ppo import objective
from trainers.ppo.config import PPOConfig
from trainers.ppo.experience import Experience, Measured
from trainers.ppo.kl import too_far
from trainers.ppo.networks import Networks, checkpoint_activations
from trainers.ppo.rollout import Rollouts
from trainers.ppo.schedule import chunks

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

LARGEST_GRADIENT = 1.0
"""Norm to which the gradients of the policy, and those of the value function, are cut."""


class Learner:
    """The networks with their optimizer."""

    def __init__(self, config: PPOConfig, networks: Networks, accelerator: Accelerator) -> None:
        import torch

        self._config, self._networks, self._accelerator = config, networks, accelerator
        for module in networks.modules():
            disable_dropout(module)
        if config.gradient_checkpointing:
            checkpoint_activations(networks)
        self._set_training(False)
        self.optimizer = torch.optim.AdamW(
            [{"params": networks.policy_parameters()}, {"params": networks.value_parameters()}],
            lr=config.rate,
            weight_decay=0.0,
        )

    def set_rates(self, factor: float) -> None:
        """`factor`: share of the peak rates."""
        policy, value = self.optimizer.param_groups
        policy["lr"], value["lr"] = self._config.rate * factor, self._config.value_rate * factor

    def measure(self, rollouts: Rollouts, values: bool = True) -> Measured:
        """By our own forward pass, whoever wrote the responses. Without `values` these are 0."""
        import torch

        width = rollouts.mask.shape[1]
        found = []
        with torch.no_grad():
            for rows in chunks(range(len(rollouts.responses)), self._config.batch_size):
                part = rollouts.select(rows)
                kinds = (
                    self._log_probs(self._networks.policy_logits, part),
                    self._log_probs(self._networks.reference_logits, part),
                    self._values(part) if values else part.mask * 0,
                )
                found.append([torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in kinds])
        log_probs, reference, value = (torch.cat(kind) for kind in zip(*found, strict=True))
        return Measured(log_probs, reference, value)

    def learn(self, experience: Experience, seed: int) -> dict[str, float]:
        """Several passes over a batch, in an order of the seed, until they are done or the policy has moved
        too far from the one that wrote the batch. Means over the updates made."""
        order = random.Random(seed)
        places = list(range(len(experience.rollouts.responses)))
        found: list[dict[str, float]] = []
        self._set_training(True)
        for _ in range(self._config.ppo_epochs):
            order.shuffle(places)
            for rows in chunks(places, self._config.minibatch_size):
                numbers = self._accumulate(experience, rows)
                if too_far(numbers["policy/approxkl"], self._config.target_kl):
                    return self._finish(found)
                self._update()
                found.append(numbers)
        return self._finish(found)

    def _finish(self, found: Sequence[Mapping[str, float]]) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        self._set_training(False)
        return {**means(found), "policy/updates": float(len(found))}

    def _accumulate(self, experience: Experience, rows: Sequence[int]) -> dict[str, float]:
        """Gradients of a minibatch, each token of which counts the same, and means over its tokens."""
        tokens = float(experience.rollouts.mask[list(rows)].sum())
        sums: dict[str, float] = defaultdict(float)
        for some in chunks(rows, self._config.batch_size):
            part = experience.select(some)
            for name, value in (
                self._policy_backward(part, tokens) | self._value_backward(part, tokens)
            ).items():
                sums[name] += value
        policy, value = sums["loss/policy"], sums["loss/value"]
        return {"loss": policy + self._config.vf_coef * value, **sums}

    def _policy_backward(self, part: Experience, tokens: float) -> dict[str, float]:
        import torch

        rollouts = part.rollouts
        mask, temperature = rollouts.mask, self._config.temperature
        logits = self._logits(self._networks.policy_logits, rollouts)
        log_probs = objective.token_log_probs(logits, rollouts.tokens, temperature)
        losses, clipped = objective.policy_loss(
            log_probs, part.log_probs, part.advantages, self._config.clip_range
        )
        loss = (losses * mask).sum() / tokens
        loss.backward()
        with torch.no_grad():
            found = {
                "policy/clipfrac": clipped,
                # The old policy wrote the tokens, so this estimates KL(old, new).
                "policy/approxkl": objective.kl_k3(part.log_probs, log_probs),
                "policy/entropy": objective.entropy(logits, temperature),
                "val/ratio": (log_probs - part.log_probs).exp(),
            }
        return {
            "loss/policy": float(loss.detach()),
            **{name: float((each * mask).sum()) / tokens for name, each in found.items()},
        }

    def _value_backward(self, part: Experience, tokens: float) -> dict[str, float]:
        values = self._values(part.rollouts)
        losses = objective.value_loss(values, part.values, part.returns, self._config.value_clip_range)
        loss = (losses * part.rollouts.mask).sum() / tokens
        (self._config.vf_coef * loss).backward()
        return {"loss/value": float(loss.detach())}

    def _update(self) -> None:
        import torch

        for group in self.optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], LARGEST_GRADIENT)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _logits(self, network: Callable[[Tensor, Tensor, int], Tensor], part: Rollouts) -> Tensor:
        with self._accelerator.autocast():
            return network(part.ids, part.attention, part.mask.shape[1])

    def _log_probs(self, network: Callable[[Tensor, Tensor, int], Tensor], part: Rollouts) -> Tensor:
        logits = self._logits(network, part)
        return objective.token_log_probs(logits, part.tokens, self._config.temperature)

    def _values(self, part: Rollouts) -> Tensor:
        with self._accelerator.autocast():
            return self._networks.values(part.ids, part.attention, part.mask.shape[1])

    def _set_training(self, mode: bool) -> None:
        """Activations are recomputed in training mode only."""
        for module in self._networks.modules():
            module.train(mode)


def means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number over the mappings that have it."""
    columns: dict[str, list[float]] = defaultdict(list)
    for numbers in found:
        for name, value in numbers.items():
            columns[name].append(value)
    return {name: sum(values) / len(values) for name, values in columns.items()}

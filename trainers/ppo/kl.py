"""What holds the policy near its reference, and near the policy that wrote the batch."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_ERROR = 0.2


def adapt(coefficient: float, kl: float, target: float, samples: int, horizon: int) -> float:
    """Ziegler's proportional controller (arXiv 1909.08593, section 2.2).

    e = clip((kl - target) / target, -0.2, 0.2); β ← β · (1 + e · samples / horizon). `kl` and `target`: nats
    a response.
    """
    error = min(max((kl - target) / target, -LARGEST_ERROR), LARGEST_ERROR)
    return coefficient * (1 + error * samples / horizon)


@dataclass
class KLController:
    """The coefficient of the KL penalty: fixed without a `target`."""

    coefficient: float
    target: float | None
    horizon: int

    def update(self, kl: float, samples: int) -> None:
        if self.target is not None:
            self.coefficient = adapt(self.coefficient, kl, self.target, samples, self.horizon)


def too_far(approx_kl: float, target_kl: float | None) -> bool:
    """Whether the policy has moved so far from the one that wrote the batch that its epochs end."""
    return target_kl is not None and approx_kl > target_kl

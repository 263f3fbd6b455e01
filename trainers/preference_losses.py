"""Losses on pairs of responses, as functions of their log-probabilities.

Every tensor has shape (batch,) and is in nats. A margin is β·Δ, where

    Δ = (log π(chosen) - log π_ref(chosen)) - (log π(rejected) - log π_ref(rejected))

of the sums over a response's tokens or, length-normalised, of the means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_CERTAIN = -1e-6
"""Largest mean log-probability whose odds are still finite in float32."""


def sigmoid_loss(margin: Tensor) -> Tensor:
    """-log σ(margin): DPO, arXiv 2305.18290, equation 7."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(margin)


def hinge_loss(margin: Tensor) -> Tensor:
    """max(0, 1 - margin): SLiC-HF, arXiv 2305.10425, with the log-ratio as the score."""
    return (1 - margin).clamp(min=0)


def soft_label_loss(margin: Tensor, target: Tensor | float) -> Tensor:
    """-p log σ(margin) - (1-p) log σ(-margin), least where σ(margin) = p. `target`: p, the probability that
    chosen is the better one."""
    return target * sigmoid_loss(margin) + (1 - target) * sigmoid_loss(-margin)


def conservative_loss(margin: Tensor, noise: float) -> Tensor:
    """cDPO (Mitchell 2023): each label is right with probability 1 - noise, where margins stop growing."""
    return soft_label_loss(margin, 1 - noise)


def robust_loss(margin: Tensor, noise: float) -> Tensor:
    """((1-e) L(margin) - e L(-margin)) / (1-2e): rDPO, Chowdhury 2024, arXiv 2403.00409, equation 11.

    Over labels of which a share `noise` (e < 1/2) is turned round, its mean is the loss on the true labels.
    """
    clean, turned = sigmoid_loss(margin), sigmoid_loss(-margin)
    return ((1 - noise) * clean - noise * turned) / (1 - 2 * noise)


def ipo_loss(difference: Tensor, beta: float) -> Tensor:
    """(difference - 1/(2β))²: arXiv 2310.12036, equation 17. `difference`: Δ of the means over tokens, which
    is what its authors used."""
    return (difference - 1 / (2 * beta)).square()


def odds_ratio_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log σ(log odds ratio): ORPO, Hong 2024, arXiv 2403.07691, equation 7. See `log_odds_ratio`."""
    return sigmoid_loss(log_odds_ratio(chosen, rejected))


def log_odds_ratio(chosen: Tensor, rejected: Tensor) -> Tensor:
    """log(odds(chosen) / odds(rejected)), odds = p / (1-p); arguments: mean log-probability of a token."""
    return (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))


def _log1mexp(log_p: Tensor) -> Tensor:
    """log(1 - exp(x)), exact near 0."""
    import torch

    return torch.log(-torch.expm1(log_p.clamp(max=_CERTAIN)))


def negative_log_likelihood(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Mean over all tokens of the batch, so long responses count for more; a scalar."""
    return -log_probs.sum() / tokens.sum().clamp(min=1)


def confidence_weight(confidence: Tensor) -> Tensor:
    """2p - 1: nothing for a pair that might as well be the other way round, 1 for a certain one."""
    return 2 * confidence - 1

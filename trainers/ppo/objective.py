"""The arithmetic of PPO: pure functions of tensors, one row a response, one column a token.

Shapes are (responses, tokens). `mask` is 1 on a response's tokens, its end token included, and 0 on the
padding after them; a response has at least one token. Whatever stands under the padding is ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-8
"""Added to a variance before its root is a divisor."""


def token_log_probs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """Log-probability of each token, in nats, from logits of shape (responses, tokens, vocabulary).

    At the temperature the tokens were sampled with, so that it is the distribution they came from.
    """
    scaled = logits.float() / temperature
    chosen = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen - scaled.logsumexp(-1)


def entropy(logits: Tensor, temperature: float) -> Tensor:
    """Entropy of each next-token distribution, in nats."""
    log_probs = (logits.float() / temperature).log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance from the mean (not Bessel's estimate: one token has a variance of 0)."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scaled to a variance of 1; to a mean of 0 as well if `shift_mean`. 0 under the padding."""
    mean = masked_mean(values, mask)
    whitened = (values - mean) * (masked_variance(values, mask) + EPSILON).rsqrt()
    return (whitened if shift_mean else whitened + mean) * mask


def kl_k1(log_probs: Tensor, reference: Tensor) -> Tensor:
    """log p - log q at tokens drawn from p: unbiased for KL(p, q), of high variance, may be negative."""
    return log_probs - reference


def kl_k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """q/p - 1 - log(q/p) at tokens drawn from p: unbiased for KL(p, q), never negative (Schulman 2020,
    http://joschu.net/blog/kl-approx.html)."""
    difference = reference - log_probs
    return difference.exp() - 1 - difference


def penalize_unfinished(scores: Tensor, finished: Tensor, penalty: float) -> Tensor:
    """Scores (one a response), lowered by `penalty` where a response was cut by the token limit."""
    return scores - penalty * (~finished).float()


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """-coefficient · kl at every token, and the response's score at its last one (Ziegler 2019, eq. 2)."""
    rewards = -coefficient * kl * mask
    last = mask.sum(1, keepdim=True).long() - 1
    return rewards.scatter_add(1, last, scores.unsqueeze(1).to(rewards.dtype))


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns by generalized advantage estimation (Schulman 2016, arXiv 1506.02438, eq. 16).

    δ_t = r_t + γ V_{t+1} - V_t, A_t = δ_t + γλ A_{t+1}, return_t = A_t + V_t. `values` at t: of the state in
    which token t is written. After its last token a response is over and worth 0, whether it ended by
    itself or was cut: the score is that of the whole response. 0 under the padding.
    """
    advantages = rewards.new_zeros(rewards.shape)
    next_value = next_advantage = rewards.new_zeros(rewards.shape[0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = (delta + gamma * lam * next_advantage) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = next_advantage
    return advantages, (advantages + values) * mask


def policy_loss(
    log_probs: Tensor, old: Tensor, advantages: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """Loss of each token, and 1 where the clip took its gradient away (Schulman 2017, arXiv 1707.06347,
    eq. 7)."""
    ratio = (log_probs - old).exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    return free.maximum(clipped), (clipped > free).float()


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip_range: float) -> Tensor:
    """Half the squared error of each token, the larger of that of the value and that of the value kept
    within `clip_range` of the old one, in units of reward."""
    kept = old + (values - old).clamp(-clip_range, clip_range)
    return 0.5 * ((values - returns) ** 2).maximum((kept - returns) ** 2)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - var(returns - values) / var(returns): 1 is a perfect value function, 0 one that knows nothing."""
    unexplained = masked_variance(returns - values, mask)
    return 1 - unexplained / (masked_variance(returns, mask) + EPSILON)

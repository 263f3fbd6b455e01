"""Proximal policy optimization: a policy learns from the rewards of what it writes.

Read in this order: `objective` (the arithmetic), `kl`, `networks` (policy, value function, reference),
`rollout` (what the policy writes), `experience`, `learner` (the updates), `trainer` (the loop), `stage`.
"""

from trainers.ppo.config import PPOConfig
from trainers.ppo.stage import train_ppo

__all__ = ["PPOConfig", "train_ppo"]

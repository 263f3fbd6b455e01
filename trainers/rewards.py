"""What an online stage learns from: functions that give each sampled response a number.

A trainer takes such functions and does not know who is behind them: a reward model, a judge or a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from prefgen.messages import Json, Messages


@dataclass(frozen=True, slots=True)
class Sample:
    """One response of the policy. `finished`: it ended by itself, not by the token limit; `columns`: what
    else the prompt's row holds."""

    prompt: Messages
    completion: str
    finished: bool = True
    columns: Mapping[str, Json] = field(default_factory=dict)


Score: TypeAlias = Callable[[Sequence[Sample]], Sequence[float | None]]
"""One number a sample, higher is better. None: it could not be scored, which is not a score of 0; what a
sample without a score teaches is nothing."""


@dataclass(frozen=True, slots=True)
class Reward:
    """`name`: in the metrics; `weight`: in the sum."""

    name: str
    score: Score
    weight: float = 1.0


def total(rewards: Sequence[Reward], samples: Sequence[Sample]) -> list[float | None]:
    """The weighted sum of all rewards for each sample, None where one of them has no score."""
    told = [(reward.weight, reward.score(samples)) for reward in rewards]
    return [_sum([(weight, scores[place]) for weight, scores in told]) for place in range(len(samples))]


def _sum(scores: Sequence[tuple[float, float | None]]) -> float | None:
    known = [weight * score for weight, score in scores if score is not None]
    return sum(known) if len(known) == len(scores) else None

"""What an online stage learns from: functions that give each sampled response a number.

A trainer takes such functions and does not know who is behind them: a reward model, a judge or a rule.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
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
    """`name`: in the metrics; `weight`: in the sum; `identity`: hash of what decides the scores, so that a
    run is not resumed under another reward."""

    name: str
    score: Score
    weight: float = 1.0
    identity: str = ""


def reward_inputs(rewards: Sequence[Reward]) -> dict[str, str | None]:
    """For `Stage.inputs`."""
    return {f"reward {reward.name}": f"{reward.weight:g} {reward.identity}".strip() for reward in rewards}


def score_each(rewards: Sequence[Reward], samples: Sequence[Sample]) -> list[list[float | None]]:
    """The scores of each reward, in the order of the samples; what is not finite is no score.

    Raises ValueError where a reward does not give one score a sample.
    """
    told = [list(reward.score(samples)) for reward in rewards]
    for reward, scores in zip(rewards, told, strict=True):
        if len(scores) != len(samples):
            raise ValueError(f"{reward.name} gave {len(scores)} scores for {len(samples)} samples")
    return [
        [score if score is not None and math.isfinite(score) else None for score in scores] for scores in told
    ]


def weighted_sum(rewards: Sequence[Reward], told: Sequence[Sequence[float | None]]) -> list[float | None]:
    """One number a sample from the scores of all rewards, None where one of them has none."""
    weights = [reward.weight for reward in rewards]
    return [_sum(list(zip(weights, scores, strict=True))) for scores in zip(*told, strict=True)]


def total(rewards: Sequence[Reward], samples: Sequence[Sample]) -> list[float | None]:
    """The weighted sum of all rewards for each sample, None where one of them has no score."""
    return weighted_sum(rewards, score_each(rewards, samples))


def length_correlation(
    scores: Sequence[float | None], lengths: Sequence[int], groups: Sequence[Hashable] | None = None
) -> float | None:
    """Pearson's correlation of score and length over the samples that have a score.

    `groups`: which samples answer the same prompt; each value then counts as its distance from the mean of
    its group, so that long answers to prompts that ask for them do not count. None where nothing varies.
    """
    members: dict[Hashable, list[tuple[float, int]]] = defaultdict(list)
    for group, score, length in zip(groups or [None] * len(scores), scores, lengths, strict=True):
        if score is not None:
            members[group].append((score, length))
    pairs = [
        (score - fmean(s for s, _ in told), length - fmean(n for _, n in told))
        for told in members.values()
        for score, length in told
    ]
    spread = math.fsum(a * a for a, _ in pairs) * math.fsum(b * b for _, b in pairs)
    return math.fsum(a * b for a, b in pairs) / math.sqrt(spread) if spread else None


def _sum(scores: Sequence[tuple[float, float | None]]) -> float | None:
    known = [weight * score for weight, score in scores if score is not None]
    return sum(known) if len(known) == len(scores) else None

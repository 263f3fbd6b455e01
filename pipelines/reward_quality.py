"""How good a reward model is on pairs it was not trained on: does it choose right, and is it as sure as it is
right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from judges.calibration import STYLE, Labelled, fit_map, log_loss
from judges.intervals import Array, bootstrap, weighted_mean
from judges.reliability import calibration_error, favoured, noise_floor


@dataclass(frozen=True, slots=True)
class Rewarded:
    """Rewards and characters of the two sides of n pairs, shape (n,) each, and each pair's prompt."""

    chosen: Array
    rejected: Array
    chosen_length: Array
    rejected_length: Array
    prompts: Sequence[str]


def quality(pairs: Rewarded) -> dict[str, Any]:
    """JSON of what is known of a reward model; all null without pairs.

    `accuracy`: share of pairs whose chosen side has the higher reward, an equal one counting half, its
    interval over prompts. `log_loss`: mean of -log sigmoid(margin), nats; ln 2 is chance. `ece`: expected
    calibration error of sigmoid(margin) as the probability that the chosen side wins, `ece_noise_floor` what
    chance alone would show. `temperature`: T for which sigmoid(margin / T) fits best; above 1 the model is
    surer than right. `length_correlation`: of reward and characters over all responses; `chosen_longer`:
    share of pairs whose chosen side is the longer one.
    """
    n = len(pairs.chosen)
    if not n:
        names = (
            "accuracy log_loss ece ece_noise_floor temperature margin_mean length_correlation chosen_longer"
        )
        return {"n": 0, **dict.fromkeys(names.split())}
    margin, ones = pairs.chosen - pairs.rejected, np.ones(n)
    accuracy = bootstrap(weighted_mean((1 + np.sign(margin)) / 2), pairs.prompts)
    confidence, agreed = favoured(margin, ones)
    fitted = fit_map("temperature", Labelled(margin, np.zeros((n, len(STYLE))), ones, pairs.prompts))
    rewards = np.concatenate([pairs.chosen, pairs.rejected])
    lengths = np.concatenate([pairs.chosen_length, pairs.rejected_length])
    return {
        "n": n,
        "accuracy": accuracy.as_json() if accuracy else None,
        "log_loss": log_loss(margin, ones),
        "ece": calibration_error(confidence, agreed),
        "ece_noise_floor": noise_floor(confidence),
        "temperature": fitted.temperature,
        "margin_mean": float(margin.mean()),
        "length_correlation": correlation(rewards, lengths),
        "chosen_longer": float((1 + np.sign(pairs.chosen_length - pairs.rejected_length)).mean() / 2),
    }


def correlation(one: Array, other: Array) -> float | None:
    """Pearson's; None where either does not vary."""
    if len(one) < 2 or not np.ptp(one) or not np.ptp(other):
        return None
    return float(np.corrcoef(one, other)[0, 1])

"""Simulated annotators: what they weigh, and how sure they are of it."""

import random
from collections.abc import Mapping
from typing import Literal

Verdict = Literal["a", "b", "tie"]

HABITS = {
    "a1": {"accurate": 1.3, "concrete": 1.1, "concise": 0.8},
    "a2": {"empathetic": 1.3, "respectful": 1.2, "accurate": 0.9},
    "a3": {"private": 1.2, "concise": 1.2, "empathetic": 0.8},
}
"""How each annotator leans: factors on the constitution's weights."""

NOISE = 0.25
"""Standard deviation of the error in one comparison, in units of a principle's weight."""

CLOSE = 0.2
"""Difference below which two replies are called equally good."""


def prefers(
    rng: random.Random,
    weights: Mapping[str, float],
    first: frozenset[str],
    second: frozenset[str],
    habit: Mapping[str, float] | None = None,
) -> Verdict:
    """The verdict of one annotator on replies with these traits; `habit` leans, chance adds an error."""
    leaning = habit or {}
    worth = {trait: weight * leaning.get(trait, 1.0) for trait, weight in weights.items()}
    gap = sum(worth[trait] for trait in first) - sum(worth[trait] for trait in second) + rng.gauss(0.0, NOISE)
    if abs(gap) < CLOSE:
        return "tie"
    return "a" if gap > 0 else "b"

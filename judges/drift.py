"""Whether a judge still judges as it did: the same comparisons, asked again.

A judge that is sampled does not repeat itself exactly. So each probe is asked twice at the start, and the
judge has drifted when later answers lie further from the first than the second did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from judges.judge import Judge, gather
from prefgen.candidate import Candidate
from prefgen.judgment import Judgment
from prefgen.prompt import Prompt

ALPHA = 0.001
"""Chance of a false alarm in one check."""
BOUND = 0.25
"""Log-odds that answers must have moved on average; they turn an even chance into 56%."""
FEWEST = 12
"""Answers below which nothing is said: no shift of so few can reach ALPHA."""
_TURNS = 20_000

Asked = tuple[str | None, ...]
"""One question: judge, prompt, a, b, principle, order."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A comparison that is asked again and again."""

    prompt: Prompt
    a: Candidate
    b: Candidate


async def answers(judge: Judge, probes: Sequence[Probe]) -> dict[Asked, float]:
    """Log-odds by question; failed calls are absent."""
    results = await gather(judge.judge(probe.prompt, [probe.a, probe.b]) for probe in probes)
    return {_asked(item): item.log_odds for told in results for item in told if isinstance(item, Judgment)}


def _asked(item: Judgment) -> Asked:
    told = item.provenance
    return told.judge, item.prompt_id, item.a_id, item.b_id, told.principle, told.order


@dataclass(frozen=True, slots=True)
class Shift:
    """Over `n` questions, the mean distance to the first answer in log-odds: `noise` of the second answer,
    `change` of the later one. `p_value`: that they differ so by chance."""

    n: int
    noise: float
    change: float
    p_value: float

    @property
    def drifted(self) -> bool:
        return self.n >= FEWEST and self.change - self.noise > BOUND and self.p_value < ALPHA


def shift(first: Mapping[Asked, float], second: Mapping[Asked, float], later: Mapping[Asked, float]) -> Shift:
    """Compares the answers to the questions that were answered all three times.

    One-sided sign-flip test, 20,000 draws: without drift the second and the later answer to a question may
    be exchanged.
    """
    both = [asked for asked in first if asked in second and asked in later]
    if not both:
        return Shift(0, 0.0, 0.0, 1.0)
    start, again, now = (np.array([told[asked] for asked in both]) for told in (first, second, later))
    noise, change = np.abs(again - start), np.abs(now - start)
    random = np.random.default_rng(0)
    signs = random.integers(0, 2, (_TURNS, len(both))) * 2 - 1
    as_large = (signs @ (change - noise) >= (change - noise).sum() - 1e-9).sum()
    p_value = float((1 + as_large) / (1 + _TURNS))
    return Shift(len(both), float(noise.mean()), float(change.mean()), p_value)

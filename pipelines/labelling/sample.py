"""Which pairs people look at: any, as many from each stretch of confidence, or spread along it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from judges.planner import next_to_label
from pipelines.labelling.config import Sampling
from prefgen.messages import content_hash

STRATA = 5


@dataclass(frozen=True, slots=True)
class Drawable:
    """A pair without its texts. `sure`: the judge's confidence, 0.5 to 1."""

    id: str
    prompt: str
    sure: float | None = None


def draw(pool: Sequence[Drawable], how: Sampling, count: int, seed: int) -> list[str]:
    """The ids of `count` of a pool, or of all where there are fewer. `how` other than random leaves out pairs
    without a confidence."""
    if how == "random":
        chosen = random.Random(content_hash([seed, "label"])).sample(pool, min(count, len(pool)))
        return [item.id for item in chosen]
    known = [(item, item.sure) for item in pool if item.sure is not None]
    if how == "stratified":
        return _stratified(known, count, seed)
    order = next_to_label([sure for _, sure in known], [item.prompt for item, _ in known], count, seed)
    return [known[index][0].id for index in order]


def _stratified(known: Sequence[tuple[Drawable, float]], count: int, seed: int) -> list[str]:
    """As many from each fifth of 0.5 to 1 as there are; what one lacks the others give."""
    strata: list[list[str]] = [[] for _ in range(STRATA)]
    for item, sure in known:
        strata[min(STRATA - 1, max(0, int((sure - 0.5) * 2 * STRATA + 1e-9)))].append(item.id)
    shuffle = random.Random(content_hash([seed, "strata"]))
    for stratum in strata:
        shuffle.shuffle(stratum)
    drawn: list[str] = []
    while len(drawn) < min(count, len(known)):
        drawn += [stratum.pop() for stratum in strata if stratum]
    return drawn[:count]

"""Planted truth: pairs whose answer is known, sent through the whole path of every run.

A tool that loses a swap or shifts scores by one candidate writes wrong labels without an error. So a
few pairs that no judge should get wrong travel with the rest, and one wrong label ends the run:

    identical    a response against itself           must not become a pair
    empty        a response against nothing          must not be lost to the empty one
    corrupted    a response against its words shuffled   must not be lost to the shuffled one
    swapped      the corrupted pair told the other way round   must come out with the sign turned
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prefgen.candidate import Candidate
from prefgen.messages import content_hash
from prefgen.pairing import Paired, PairingRule
from prefgen.prompt import Prompt
from prefgen.verdicts import Standing

Kind = Literal["identical", "empty", "corrupted", "swapped"]
MUST_HOLD: dict[str, str] = {
    "identical": "a response against itself must not become a pair",
    "empty": "a response must not lose to an empty one",
    "corrupted": "a response must not lose to its own words shuffled",
    "swapped": "the shuffled pair told the other way round must come out the same",
}
_MIN_WORDS = 5
_SWAP_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Planted:
    """`good` must beat `bad`, except where they are identical. `sides`: in the order they are judged."""

    kind: Kind
    prompt: Prompt
    good: Candidate
    bad: Candidate

    @property
    def sides(self) -> tuple[Candidate, Candidate]:
        return (self.bad, self.good) if self.kind == "swapped" else (self.good, self.bad)


@dataclass(frozen=True, slots=True)
class PlantedResult:
    """`correct`: False only for a wrong label; a pair that was not emitted is no label at all."""

    kind: Kind
    prompt_id: str
    emitted: bool
    correct: bool
    margin: float | None


def plant(prompt: Prompt, candidates: Sequence[Candidate]) -> list[Planted]:
    """The known pairs that can be made from the first usable candidate of a prompt; else none."""
    usable = (item for item in candidates if not item.truncated and len(set(item.text.split())) >= _MIN_WORDS)
    good = next(usable, None)
    if good is None:
        return []
    twin = replace(good, policy="planted/identical")
    empty = replace(good, text="", policy="planted/empty")
    corrupted = replace(good, text=_shuffle(good), policy="planted/corrupted")
    return [
        Planted("identical", prompt, good, twin),
        Planted("empty", prompt, good, empty),
        Planted("corrupted", prompt, good, corrupted),
        Planted("swapped", prompt, good, corrupted),
    ]


def check(planted: Planted, standing: Standing, paired: Paired, rule: PairingRule) -> PlantedResult:
    """Whether what came out of judging and pairing contradicts what is known.

    A margin that is clear enough to be a label counts as one, even where a later rule (an empty
    response is never chosen) would have stopped it.
    """
    margin = standing.margin(planted.good.id, planted.bad.id)
    emitted = bool(paired.preferences)
    good, bad = planted.good, planted.bad
    for_good = 0.0 if margin is None else rule.confidence.probability(margin, good, bad)
    for_bad = 0.0 if margin is None else rule.confidence.probability(-margin, bad, good)
    wrong = margin is not None and margin < 0 and for_bad >= rule.min_confidence
    if planted.kind == "identical":
        wrong = emitted or wrong or for_good >= max(rule.min_confidence, 0.6)
    else:
        wrong = wrong or any(item.chosen.id != planted.good.id for item in paired.preferences)
    return PlantedResult(planted.kind, planted.prompt.id, emitted, not wrong, margin)


def swap_errors(results: Sequence[PlantedResult]) -> Iterator[str]:
    """Prompts whose corrupted pair has another margin when told the other way round."""
    told = {(result.prompt_id, result.kind): result.margin for result in results}
    for (prompt_id, kind), margin in told.items():
        other = told.get((prompt_id, "swapped"))
        if kind != "corrupted" or margin is None or other is None:
            continue
        if abs(margin - other) > _SWAP_TOLERANCE:
            yield f"{prompt_id}: margin {margin:+.4f}, told the other way round {other:+.4f}"


def _shuffle(candidate: Candidate) -> str:
    words = candidate.text.split()
    shuffled = words[:]
    draw = random.Random(content_hash([candidate.id]))
    while shuffled == words:
        draw.shuffle(shuffled)
    return " ".join(shuffled)

"""A preference: for this prompt, this response rather than that one."""

from __future__ import annotations

from dataclasses import dataclass

from prefgen.candidate import Candidate
from prefgen.messages import content_hash
from prefgen.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Preference:
    """`margin`: log-odds that chosen beats rejected (> 0). `confidence`: the same as a probability,
    calibrated where the run has a calibration. `slot_bias`: log-odds by which the judge
    leant to the response shown first, which the margin is free of. `why`: ledger keys of the judgments."""

    prompt: Prompt
    chosen: Candidate
    rejected: Candidate
    margin: float
    confidence: float
    why: tuple[str, ...] = ()
    slot_bias: float | None = None

    @property
    def id(self) -> str:
        return content_hash([self.prompt.id, self.chosen.id, self.rejected.id])

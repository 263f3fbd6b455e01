"""A preference: for this prompt, this response rather than that one."""

from __future__ import annotations

from dataclasses import dataclass

from prefgen.candidate import Candidate
from prefgen.messages import content_hash
from prefgen.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Preference:
    """`margin`: log-odds that chosen beats rejected (> 0). `confidence`: the same as a probability,
    calibrated where the run has a calibration. `why`: ledger keys of the judgments behind it."""

    prompt: Prompt
    chosen: Candidate
    rejected: Candidate
    margin: float
    confidence: float
    why: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return content_hash([self.prompt.id, self.chosen.id, self.rejected.id])

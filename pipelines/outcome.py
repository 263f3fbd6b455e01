"""What one prompt comes to: candidates, judgments, preferences; made the same way by every job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefgen.judgment import JudgeResult
from prefgen.pairing import KTOLabels, KTORow, Paired, PairingRule, kto_rows, pair_up
from prefgen.planted import PlantedResult
from prefgen.prompt import Prompt
from prefgen.sampling import Sampled
from prefgen.verdicts import Standing, settle


@dataclass(frozen=True, slots=True)
class Outcome:
    """`results`: every judgment and failure on the prompt's own candidates; `planted`: of the known pairs."""

    prompt: Prompt
    sampled: Sampled
    results: Sequence[JudgeResult]
    standing: Standing
    paired: Paired
    kto: Sequence[KTORow]
    planted: Sequence[PlantedResult] = ()


@dataclass(frozen=True, slots=True)
class Pairing:
    """How judgments become rows: the rule, KTO's labels, and each principle's share."""

    rule: PairingRule
    kto_labels: KTOLabels = "pairs"
    weights: Mapping[str, float] = field(default_factory=dict)

    def outcome(self, prompt: Prompt, sampled: Sampled, results: Sequence[JudgeResult]) -> Outcome:
        candidates = sampled.distinct
        standing = settle([candidate.id for candidate in candidates], results, self.weights)
        paired = pair_up(prompt, candidates, standing, self.rule)
        rows = kto_rows(prompt, candidates, standing, paired.preferences, self.rule, self.kto_labels)
        return Outcome(prompt, sampled, results, standing, paired, rows)

"""What one prompt comes to: candidates, judgments, preferences; made the same way by every job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult
from prefgen.pairing import KTOLabels, KTORow, Paired, PairingRule, kto_rows, pair_up
from prefgen.planted import PlantedResult
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.sampling import Sampled
from prefgen.verdicts import ALIKE, Standing, Weighing, settle


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
class Later:
    """A later judge of a cascade, by name, and the rule its word is held to."""

    judge: str
    rule: PairingRule


@dataclass(frozen=True, slots=True)
class Pairing:
    """How judgments become rows: the rule, KTO's labels, and how what was said is weighed. `later`: who
    decides the pairs that the first judge of a cascade is not sure of, in order."""

    rule: PairingRule
    kto_labels: KTOLabels = "pairs"
    weighing: Weighing = ALIKE
    later: Sequence[Later] = ()

    def standing(self, candidates: Sequence[Candidate], results: Sequence[JudgeResult]) -> Standing:
        return settle([candidate.id for candidate in candidates], results, self.weighing)

    def outcome(self, prompt: Prompt, sampled: Sampled, results: Sequence[JudgeResult]) -> Outcome:
        return self.settled(prompt, sampled, results, self.standing(sampled.distinct, results))

    def settled(
        self, prompt: Prompt, sampled: Sampled, results: Sequence[JudgeResult], standing: Standing
    ) -> Outcome:
        """The same where `results` have been weighed already, which many rules may share."""
        candidates = sampled.distinct
        paired = pair_up(prompt, candidates, standing, self.rule)
        for stage in self.later:
            paired = decide(paired, stage, results, self.weighing.principles, self.rule.max_pairs)
        rows = kto_rows(prompt, candidates, standing, paired.preferences, self.rule, self.kto_labels)
        return Outcome(prompt, sampled, results, standing, paired, rows)


def decide(
    paired: Paired,
    stage: Later,
    results: Sequence[JudgeResult],
    principles: Mapping[str, float],
    max_pairs: int,
) -> Paired:
    """`paired` after a later judge has spoken on pairs that were unsure. Those it was not asked about stay
    so; its label is its own, whichever side the first judge leant to."""
    kept, unsure, dropped = list(paired.preferences), list[Preference](), Counter(paired.dropped)
    asked, decided = Counter(paired.asked), Counter(paired.kept)
    for preference in paired.unsure:
        told = [result for result in results if _is_on(result, stage.judge, preference)]
        if not told or len(kept) >= max_pairs:
            unsure.append(preference)
            continue
        sides = (preference.chosen, preference.rejected)
        standing = settle([side.id for side in sides], told, Weighing(principles))
        again = pair_up(preference.prompt, sides, standing, stage.rule)
        dropped["margin" if preference.margin else "tie"] -= 1
        dropped.update(again.dropped)
        kept += again.preferences
        unsure += again.unsure
        asked[stage.judge] += 1
        decided[stage.judge] += len(again.preferences)
    return Paired(kept, +dropped, unsure, asked, decided)


def _is_on(result: JudgeResult, judge: str, preference: Preference) -> bool:
    ids = {preference.chosen.id, preference.rejected.id}
    return result.provenance.judge == judge and {result.a_id, result.b_id or result.a_id} <= ids

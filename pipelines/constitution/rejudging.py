"""What of a run must be asked again under another constitution, and what it comes to then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any, Literal, TypeAlias

from judges.judge import Judge, gather
from pipelines.constitution.changes import Changes
from pipelines.constitution.config import RunsJudge
from pipelines.outcome import Pairing
from pipelines.why.arithmetic import sums
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult
from prefgen.pairing import fate, pair_up
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.sampling import Sampled
from prefgen.verdicts import Standing, Weighing

Asked: TypeAlias = Literal["nothing", "principles", "pairs"]


@dataclass(frozen=True, slots=True)
class Work:
    """One prompt: what was said of it, its pairs, and the responses that go to the judge together."""

    prompt: Prompt
    sampled: Sampled
    results: Sequence[JudgeResult]
    pairs: Sequence[Preference]
    groups: Sequence[Sequence[Candidate]]


@dataclass(frozen=True, slots=True)
class Rejudging:
    """`pairing`: the run's. `asked`: nothing, where weights say it all; the new principles, where each was
    asked by itself; or the run's pairs, where all principles make one question."""

    changes: Changes
    judging: RunsJudge
    pairing: Pairing

    @property
    def asked(self) -> Asked:
        if self._each:
            return "principles" if self.changes.new else "nothing"
        sampled = self.judging.judging == "pairwise" and self.judging.principles == "sample"
        same = self.changes.a.as_list() == self.changes.b.as_list()
        return "nothing" if same and not (sampled and self.changes.reweighted) else "pairs"

    @property
    def _each(self) -> bool:
        """A tournament's matches hang on its judgments: it is as one question."""
        if self.judging.judging == "pointwise":
            return True
        alone = self.judging.judging == "pairwise" and self.judging.principles == "each"
        return alone and self.judging.meetings == "round-robin"

    def work(self, prompt: Prompt, sampled: Sampled, results: Sequence[JudgeResult]) -> Work:
        pairs = self.pairing.outcome(prompt, sampled, results).paired.preferences
        return Work(prompt, sampled, results, pairs, self._groups(sampled, results, pairs))

    def _groups(
        self, sampled: Sampled, results: Sequence[JudgeResult], pairs: Sequence[Preference]
    ) -> list[list[Candidate]]:
        met = {frozenset((result.a_id, result.b_id or result.a_id)) for result in results}
        judged = [item for item in sampled.distinct if any(item.id in pair for pair in met)]
        match self.asked:
            case "nothing":
                return []
            case "principles" if self.judging.judging == "pointwise":
                return [judged] if judged else []
            case "principles":
                return [[a, b] for a, b in combinations(judged, 2) if {a.id, b.id} in met]
        if self.judging.judging == "listwise":
            return [judged] if pairs else []
        wanted = [{pair.chosen.id, pair.rejected.id} for pair in pairs]
        if self.judging.judging == "score":
            together = [item for item in judged if any(item.id in pair for pair in wanted)]
            return [together] if together else []
        return [[item for item in judged if item.id in pair] for pair in wanted]

    def questions(self, work: Work) -> int:
        """Questions to the judges; votes and second tries are not counted."""
        config = self.judging
        each = len(self.changes.new) if self.asked == "principles" else 1
        match config.judging:
            case "pairwise":
                count = len(work.groups) * (2 if config.both_orders else 1)
            case "listwise":
                count = len(work.groups) * config.permutations
            case _:
                count = sum(map(len, work.groups))
        return count * each * len(config.judge)

    async def judge(self, judge: Judge, work: Work) -> list[JudgeResult]:
        told = await gather(judge.judge(work.prompt, group) for group in work.groups)
        return [self._under_b(result) for results in told for result in results]

    def _under_b(self, result: JudgeResult) -> JudgeResult:
        return replace(result, provenance=replace(result.provenance, constitution=self.changes.b.hash))

    def compare(self, work: Work, fresh: Sequence[JudgeResult]) -> Compared:
        """The pairs of a prompt before and after."""
        if self.asked == "pairs":
            return self._compare_pairs(work, fresh)
        new, weights = {item.id for item in self.changes.new}, self.changes.b.weights
        heard = [
            item
            for item in work.results
            if item.provenance.principle in weights and item.provenance.principle not in new
        ]
        results = [*heard, *fresh] if self._each else work.results
        weighing = self.pairing.weighing
        weighing = replace(weighing, principles=weights) if self._each else weighing
        pairing = replace(self.pairing, weighing=weighing)
        outcome = pairing.outcome(work.prompt, work.sampled, results)
        return Compared(self, work, results, weighing, outcome.standing, outcome.paired.preferences)

    def _compare_pairs(self, work: Work, fresh: Sequence[JudgeResult]) -> Compared:
        """Only the run's own pairs were asked about: whether others would come instead is not known."""
        judged = [item for item in work.sampled.distinct if any(item in group for group in work.groups)]
        standing = self.pairing.standing(judged, fresh)
        rule = replace(self.pairing.rule, strategy="all", max_pairs=len(work.pairs))
        after = [
            preference
            for pair in work.pairs
            for preference in pair_up(work.prompt, [pair.chosen, pair.rejected], standing, rule).preferences
        ]
        return Compared(self, work, fresh, self.pairing.weighing, standing, after)


@dataclass(frozen=True, slots=True)
class Compared:
    """`results`, `weighing`, `standing`, `after`: of a prompt under the other constitution."""

    job: Rejudging
    work: Work
    results: Sequence[JudgeResult]
    weighing: Weighing
    standing: Standing
    after: Sequence[Preference]

    def rows(self) -> Iterable[dict[str, Any]]:
        """Pairs that flip (the judge now prefers the rejected one), disappear or appear."""
        then = {(item.chosen.id, item.rejected.id) for item in self.work.pairs}
        now = {(item.chosen.id, item.rejected.id) for item in self.after}
        for pair in self.work.pairs:
            ids = pair.chosen.id, pair.rejected.id
            margin = self.standing.margin(*ids)
            if margin is not None and margin < 0:
                yield self._row("flipped", pair, margin, None if ids[::-1] in now else self._reason(*ids))
            elif ids not in now:
                yield self._row("disappeared", pair, margin, self._reason(*ids))
        for pair in self.after:
            ids = pair.chosen.id, pair.rejected.id
            if ids not in then and ids[::-1] not in then:
                yield self._row("appeared", pair, pair.margin, None)

    def _reason(self, a: str, b: str) -> str:
        rule, candidates = self.job.pairing.rule, self.work.sampled.distinct
        if self.job.asked == "pairs":
            rule = replace(rule, strategy="all")
        proposed, reason = fate(candidates, self.standing, rule, a, b)
        return (reason or "over_max_pairs") if proposed else "not_proposed"

    def _row(self, change: str, pair: Preference, margin: float | None, reason: str | None) -> dict[str, Any]:
        """`chosen_id`: of the pair as it was, or, of one that appears, as it is; the margins and confidences
        are for it over `rejected_id`."""
        a, b = pair.chosen, pair.rejected
        before = self.job.pairing.standing(self.work.sampled.distinct, self.work.results).margin(a.id, b.id)
        moved_by, moved = self._mover(a.id, b.id)
        return {
            "change": change,
            "pair_id": pair.id,
            "prompt_id": pair.prompt.id,
            "chosen_id": a.id,
            "rejected_id": b.id,
            "margin_before": before,
            "margin_after": margin,
            "confidence_before": self._sure(before, a, b),
            "confidence_after": self._sure(margin, a, b),
            "moved_by": moved_by,
            "moved": moved,
            "kept_after": change == "appeared" or (change == "flipped" and reason is None),
            "reason": reason,
        }

    def _sure(self, margin: float | None, a: Candidate, b: Candidate) -> float | None:
        return None if margin is None else self.job.pairing.rule.confidence.probability(margin, a, b)

    def _mover(self, a: str, b: str) -> tuple[str | None, float | None]:
        """The principle that moved the margin the furthest the way it went, and how far, in log-odds."""
        before = _counted(self.work.results, self.job.pairing.weighing, a, b)
        after = _counted(self.results, self.weighing, a, b)
        names = [name for name in {**before, **after} if name]
        moves = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in names}
        if not moves:
            return None, None
        way = 1 if sum(moves.values()) >= 0 else -1
        name = max(moves, key=lambda each: way * moves[each])
        return name, moves[name]


def _counted(results: Sequence[JudgeResult], weighing: Weighing, a: str, b: str) -> dict[str, float]:
    """What each principle adds to the margin of a over b, mean over the judges."""
    told: dict[str, list[float]] = {}
    for found in sums(results, weighing.principles, a, b):
        for term in found.terms:
            told.setdefault(term.principle or "", []).append(term.counts)
    return {name: fmean(values) for name, values in told.items()}

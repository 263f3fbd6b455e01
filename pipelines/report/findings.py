"""What a finished run shows, counted in one pass over its tables.

Memory holds the rows of one prompt, a few bins and a handful of examples, however long the run was.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipelines.calibration.labelling import pairing_from
from pipelines.charts import Tally
from pipelines.outcome import Pairing
from pipelines.report.examples import Example, Few, with_reasons
from pipelines.report.measures import Lengths, Moments, Planted, Position
from pipelines.report.slices import Slices
from pipelines.report.suspicion import Suspicions
from pipelines.report.views import VERDICT, Views, margins_by
from pipelines.stored import stored
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure, JudgeResult
from prefgen.pairing import is_tie
from prefgen.rows import as_text
from prefgen.run import RunDirectory
from prefgen.tables import read_table
from prefgen.verdicts import Standing

Row = dict[str, Any]
KEPT, DROPPED = 0, 1
_JUST_BELOW_ONE = 1 - 1e-9
_DPO = ["prompt_id", "chosen_id", "rejected_id", "prompt", "chosen", "rejected", "margin", "confidence"]


@dataclass(slots=True)
class Findings:
    """`margins` and `confidences` have two series: pairs kept, and pairs dropped for their margin.
    `unscored`: distinct responses without a score, by why. `planted`: by kind. `constitution`: its hash.
    `failed`: by cause, one failure to read. `alone`: prompts without a kept pair."""

    margins: Tally = field(default_factory=lambda: Tally(1 / 64, series=2))
    confidences: Tally = field(default_factory=lambda: Tally(0.025, series=2))
    clearest: Few = field(default_factory=lambda: Few(largest=True))
    nearest: Few = field(default_factory=lambda: Few(largest=False))
    dropped: Few = field(default_factory=lambda: Few(largest=True))
    suspicious: Suspicions = field(default_factory=Suspicions)
    lengths: Lengths = field(default_factory=Lengths)
    scores: Tally = field(default_factory=lambda: Tally(1 / 64))
    by_policy: dict[str, Moments] = field(default_factory=lambda: defaultdict(Moments))
    slices: Slices = field(default_factory=Slices)
    unscored: Counter[str] = field(default_factory=Counter)
    position: Position = field(default_factory=Position)
    judges: Views = field(default_factory=Views)
    principles: Views = field(default_factory=Views)
    planted: dict[str, Planted] = field(default_factory=lambda: defaultdict(Planted))
    failed: dict[str, JudgeFailure] = field(default_factory=dict)
    constitution: str | None = None
    alone: int = 0

    def add_kept(self, example: Example) -> None:
        self._add_margin(example, KEPT)
        self.clearest.add(example)
        self.nearest.add(example)
        self.lengths.add(len(example.chosen), len(example.rejected))

    def add_dropped(self, example: Example) -> None:
        self._add_margin(example, DROPPED)
        self.dropped.add(example)

    def _add_margin(self, example: Example, series: int) -> None:
        self.margins.add(example.margin, series)
        self.confidences.add(min(example.confidence, _JUST_BELOW_ONE), series)

    def add_scores(self, candidates: Iterable[Candidate], scores: Mapping[str, float]) -> None:
        """The distinct responses of one prompt and their scores by id."""
        for item in candidates:
            if item.id in scores:
                self.scores.add(scores[item.id])
                self.by_policy[item.policy].add(scores[item.id])
            else:
                self.unscored[_why_unscored(item)] += 1

    def add_results(
        self, results: list[JudgeResult], standing: Standing, kept: list[Example], pairing: Pairing
    ) -> None:
        """What the judges said about one prompt, and the pairs that came of it."""
        self.position.add(results)
        for item in results:
            self.constitution = self.constitution or item.provenance.constitution
            if isinstance(item, JudgeFailure):
                self._remember(item)
        by_principle = margins_by(results, lambda told: told.principle)
        by_judge = margins_by(results, lambda told: told.judge)
        for views, margins in ((self.principles, by_principle), (self.judges, by_judge)):
            if len(margins) > 1:
                pairs = {pair for told in margins.values() for pair in told}
                final = {pair: margin for pair in pairs if (margin := standing.margin(*pair)) is not None}
                # What the later judges of a cascade decided is not in the standing.
                views.add(margins if pairing.later else {VERDICT: final, **margins})
        self.suspicious.add(kept, results, by_principle, by_judge, pairing.rule.min_confidence)

    def _remember(self, failure: JudgeFailure) -> None:
        """The first of its cause, rather one that says something."""
        known = self.failed.get(failure.status)
        if known is None or (failure.raw.strip() and not known.raw.strip()):
            self.failed[failure.status] = failure


def find(run: RunDirectory, manifest: Mapping[str, Any]) -> Findings:
    """Everything the report shows that the manifest does not hold."""
    findings, path = Findings(), run.path
    _add_prompts(findings, run, manifest)
    for row in _rows(path / "planted.parquet"):
        findings.planted[row["kind"]].add(row)
    findings.suspicious.add_audit(path)
    _finish_examples(findings, path / "judgments.parquet")
    return findings


def _add_prompts(findings: Findings, run: RunDirectory, manifest: Mapping[str, Any]) -> None:
    wanted, pairing = "margin" in manifest["counts"]["dropped"], pairing_from(manifest)
    pairs = _Kept(run.path)
    for prompt, sampled, results in stored(run):
        kept, standing = pairs.of(prompt.id), pairing.standing(sampled.distinct, results)
        for example in kept:
            findings.add_kept(example)
        findings.alone += not kept
        findings.slices.add(prompt.columns, kept)
        findings.add_scores(sampled.distinct, standing.scores)
        findings.add_results(results, standing, kept, pairing)
        if wanted:
            for preference in pairing.settled(prompt, sampled, results, standing).paired.unsure:
                if not is_tie(preference.margin):
                    findings.add_dropped(Example.of(preference))
    for example in pairs.rest:
        findings.add_kept(example)


class _Kept:
    """The kept pairs of each prompt: both splits stand in the order of the prompts, as the tables do."""

    def __init__(self, path: Path) -> None:
        splits = (_rows(path / "dpo" / f"{split}.parquet", _DPO) for split in ("train", "test"))
        self._groups = [groupby(rows, itemgetter("prompt_id")) for rows in splits]
        self._waiting = [next(groups, None) for groups in self._groups]

    def of(self, prompt_id: str) -> list[Example]:
        for place, group in enumerate(self._waiting):
            if group is not None and group[0] == prompt_id:
                found = [_stored(row) for row in group[1]]
                self._waiting[place] = next(self._groups[place], None)
                return found
        return []

    @property
    def rest(self) -> Iterator[Example]:
        """What stood in another order: counted, though nothing else is known of it."""
        for waiting, groups in zip(self._waiting, self._groups, strict=True):
            for _, rows in [waiting] if waiting else []:
                yield from map(_stored, rows)
            for _, rows in groups:
                yield from map(_stored, rows)


def _rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    return read_table(path, columns) if path.exists() else iter(())


def _why_unscored(item: Candidate) -> str:
    if item.truncated:
        return "cut by the token limit"
    return "empty" if item.empty else "not judged, or the judge failed"


def _stored(row: Row) -> Example:
    return Example(**row | {name: as_text(row[name]) for name in ("prompt", "chosen", "rejected")})


def _finish_examples(findings: Findings, judgments: Path) -> None:
    """Adds reasons; in a run of few pairs, one of the clearest is not shown among the nearest again."""
    few = (findings.clearest, findings.nearest, findings.dropped)
    clearest = list(findings.clearest.items)
    findings.nearest.items = [item for item in findings.nearest.items if item not in clearest]
    worst = findings.suspicious.worst
    groups = [one.items for one in few] + [[item for _, item in told] for told in worst.values()]
    told = with_reasons(groups, judgments)
    for one, items in zip(few, told[: len(few)], strict=True):
        one.items = items
    for kind, items in zip(list(worst), told[len(few) :], strict=True):
        worst[kind] = [(how_bad, item) for (how_bad, _), item in zip(worst[kind], items, strict=True)]

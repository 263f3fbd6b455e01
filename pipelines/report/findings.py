"""What a finished run shows, counted in one pass over its tables.

Memory holds the rows of one prompt, a few bins and a handful of examples, however long the run was.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nlargest, nsmallest
from math import sqrt
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.calibration.labelling import pairing_from
from pipelines.charts import Tally
from pipelines.stored import stored
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult, Judgment
from prefgen.pairing import PairingRule, pair_up
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.rows import as_text
from prefgen.run import RunDirectory
from prefgen.sampling import Sampled
from prefgen.tables import read_table
from prefgen.verdicts import Standing

Row = dict[str, Any]
KEPT, DROPPED = 0, 1
CHOSEN, REJECTED = 0, 1
_SHOWN = 3
_JUST_BELOW_ONE = 1 - 1e-9
_DPO = ["prompt_id", "chosen_id", "rejected_id", "prompt", "chosen", "rejected", "margin", "confidence"]
_SHORTEST_REASON = 20
_WITHOUT_WORDS = ("logprobs", "reward")


class Moments:
    """Count, mean and standard deviation (ddof 1) of a stream, by Welford's update."""

    def __init__(self) -> None:
        self.n, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self._squares += step * (value - self.mean)

    @property
    def sd(self) -> float | None:
        return sqrt(self._squares / (self.n - 1)) if self.n > 1 else None


@dataclass(frozen=True, slots=True)
class Example:
    """A pair as text. `reasons`: (what the judge was asked, what it wrote)."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    prompt: str
    chosen: str
    rejected: str
    margin: float
    confidence: float
    reasons: tuple[tuple[str, str], ...] = ()


class Few:
    """The three examples with the largest, or the smallest, margin."""

    def __init__(self, largest: bool) -> None:
        self._take = partial(nlargest if largest else nsmallest, _SHOWN)
        self.items: list[Example] = []

    def add(self, example: Example) -> None:
        self.items = self._take([*self.items, example], key=lambda item: item.margin)


@dataclass(slots=True)
class Lengths:
    """Chosen and rejected responses, in characters."""

    sides: tuple[Moments, Moments] = field(default_factory=lambda: (Moments(), Moments()))
    tally: Tally = field(default_factory=lambda: Tally(1, series=2, most=16))
    longer: int = 0
    shorter: int = 0

    def add(self, chosen: int, rejected: int) -> None:
        for side, length in ((CHOSEN, chosen), (REJECTED, rejected)):
            self.sides[side].add(length)
            self.tally.add(length, side)
        self.longer += chosen > rejected
        self.shorter += chosen < rejected

    @property
    def cohens_d(self) -> float | None:
        """Difference of the means over the root mean square of the two standard deviations."""
        chosen, rejected = self.sides
        pooled = sqrt(((chosen.sd or 0.0) ** 2 + (rejected.sd or 0.0) ** 2) / 2)
        return (chosen.mean - rejected.mean) / pooled if pooled else None


@dataclass(slots=True)
class Position:
    """`lean`: b = (z_ab - z_ba) / 2 in log-odds, over questions asked in both orders; `agree` of them
    had one verdict. `first` of the `decided` judgments went to the response shown first."""

    lean: Moments = field(default_factory=Moments)
    agree: int = 0
    decided: int = 0
    first: int = 0

    def add(self, results: Iterable[JudgeResult]) -> None:
        """What was said about one prompt's candidates."""
        asked: dict[tuple[str | None, ...], dict[str, float]] = defaultdict(dict)
        for item in results:
            told = item.provenance
            if not isinstance(item, Judgment) or item.b_id is None or told.order is None:
                continue
            self.decided += item.log_odds != 0
            self.first += item.log_odds > 0 if told.order == "ab" else item.log_odds < 0
            asked[item.a_id, item.b_id, told.judge, told.principle][told.order] = item.log_odds
        for both in asked.values():
            if len(both) == 2:
                self.lean.add((both["ab"] - both["ba"]) / 2)
                self.agree += _sign(both["ab"]) == _sign(both["ba"])


@dataclass(slots=True)
class Planted:
    """Known pairs of one kind: how many were tried, and for how many the known answer held."""

    tried: int = 0
    held: int = 0
    margins: Moments = field(default_factory=Moments)

    def add(self, row: Row) -> None:
        self.tried += 1
        self.held += row["correct"]
        if row["margin"] is not None:
            self.margins.add(row["margin"])


@dataclass(slots=True)
class Findings:
    """`margins` and `confidences` have two series: pairs kept, and pairs dropped for their margin.
    `unscored`: distinct responses without a score, by why. `planted`: by kind. `constitution`: its hash."""

    margins: Tally = field(default_factory=lambda: Tally(1 / 64, series=2))
    confidences: Tally = field(default_factory=lambda: Tally(0.025, series=2))
    clearest: Few = field(default_factory=lambda: Few(largest=True))
    nearest: Few = field(default_factory=lambda: Few(largest=False))
    dropped: Few = field(default_factory=lambda: Few(largest=True))
    lengths: Lengths = field(default_factory=Lengths)
    scores: Tally = field(default_factory=lambda: Tally(1 / 64))
    by_policy: dict[str, Moments] = field(default_factory=lambda: defaultdict(Moments))
    unscored: Counter[str] = field(default_factory=Counter)
    position: Position = field(default_factory=Position)
    planted: dict[str, Planted] = field(default_factory=lambda: defaultdict(Planted))
    constitution: str | None = None

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


def find(run: RunDirectory, manifest: Mapping[str, Any]) -> Findings:
    """Everything the report shows that the manifest does not hold."""
    findings, path = Findings(), run.path
    for split in ("train", "test"):
        for row in _rows(path / "dpo" / f"{split}.parquet", _DPO):
            findings.add_kept(_stored(row))
    _add_prompts(findings, run, manifest)
    for row in _rows(path / "planted.parquet"):
        findings.planted[row["kind"]].add(row)
    _finish_examples(findings, path / "judgments.parquet")
    return findings


def _add_prompts(findings: Findings, run: RunDirectory, manifest: Mapping[str, Any]) -> None:
    wanted, pairing = "margin" in manifest["counts"]["dropped"], pairing_from(manifest)
    for prompt, sampled, results in stored(run):
        standing = pairing.standing(sampled.distinct, results)
        findings.add_scores(sampled.distinct, standing.scores)
        findings.position.add(results)
        hashes = (item.provenance.constitution for item in results)
        findings.constitution = findings.constitution or next(hashes, None)
        for preference in _below(prompt, sampled, standing, pairing.rule) if wanted else ():
            findings.add_dropped(_recalled(preference))


def _below(prompt: Prompt, sampled: Sampled, standing: Standing, rule: PairingRule) -> list[Preference]:
    """Pairs that were dropped for their margin: no table holds them, so pairing is done without that rule
    and those that come after it."""
    most = len(sampled.distinct) ** 2
    lenient = replace(rule, min_confidence=0.0, max_pairs=most, max_similarity=1.0, max_length_gap=None)
    preferences = pair_up(prompt, sampled.distinct, standing, lenient).preferences
    return [item for item in preferences if item.confidence < rule.min_confidence]


def _rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    return read_table(path, columns) if path.exists() else iter(())


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _why_unscored(item: Candidate) -> str:
    if item.truncated:
        return "cut by the token limit"
    return "empty" if item.empty else "not judged, or the judge failed"


def _stored(row: Row) -> Example:
    return Example(**row | {name: as_text(row[name]) for name in ("prompt", "chosen", "rejected")})


def _recalled(preference: Preference) -> Example:
    chosen, rejected = preference.chosen, preference.rejected
    return Example(
        *(preference.prompt.id, chosen.id, rejected.id),
        *(preference.prompt.text, chosen.text, rejected.text),
        *(preference.margin, preference.confidence),
    )


def _finish_examples(findings: Findings, judgments: Path) -> None:
    """Adds reasons; in a run of few pairs, one of the clearest is not shown among the nearest again."""
    clearest = list(findings.clearest.items)
    findings.nearest.items = [item for item in findings.nearest.items if item not in clearest]
    shown = (findings.clearest, findings.nearest, findings.dropped)
    told = _judgments_on({item.prompt_id for few in shown for item in few.items}, judgments)
    for few in shown:
        few.items = [replace(item, reasons=_reasons(item, told[item.prompt_id])) for item in few.items]


def _judgments_on(prompt_ids: set[str], path: Path) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    if prompt_ids and path.exists():
        columns = ["prompt_id", "a_id", "b_id", "order", "raw", "evidence"]
        for row in pq.read_table(
            path, columns=columns, filters=[("prompt_id", "in", prompt_ids)]
        ).to_pylist():
            found[row["prompt_id"]].append(row)
    return found


def _reasons(example: Example, told: Iterable[Row]) -> tuple[tuple[str, str], ...]:
    """What a judge wrote on the pair with the chosen response shown first, or on each response alone."""
    found: dict[str, str] = {}
    for row in told:
        asked = _asked(row, example)
        written = "" if row["evidence"] in _WITHOUT_WORDS else _reason(row["raw"] or "")
        if asked and len(written) >= _SHORTEST_REASON:
            found.setdefault(asked, written)
    return tuple(sorted(found.items()))


def _asked(row: Row, example: Example) -> str | None:
    sides = {example.chosen_id: "chosen", example.rejected_id: "rejected"}
    if row["b_id"] is None:
        return f"on the {sides[row['a_id']]} response" if row["a_id"] in sides else None
    shown = (row["a_id"], row["b_id"]) if row["order"] != "ba" else (row["b_id"], row["a_id"])
    return "shown the chosen response first, as A" if shown == tuple(sides) else None


def _reason(raw: str) -> str:
    """The words of a reply: of several votes the first, of a JSON object its reason."""
    try:
        value = json.loads(raw)
    except ValueError:
        return raw.strip()
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("reason")
    return value.strip() if isinstance(value, str) else ""

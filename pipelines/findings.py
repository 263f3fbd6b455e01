"""What a finished run shows, counted in one pass over its tables.

Memory holds the rows of one prompt, a few bins and a handful of examples, however long the run was.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nlargest, nsmallest
from itertools import groupby
from math import sqrt
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.charts import Tally
from pipelines.recall import Recall
from prefgen.preference import Preference
from prefgen.run import RunDirectory
from prefgen.tables import read_table

Row = dict[str, Any]
KEPT, DROPPED = 0, 1
CHOSEN, REJECTED = 0, 1
_SHOWN = 3
_JUST_BELOW_ONE = 1 - 1e-9
_DPO = ["prompt_id", "chosen_id", "rejected_id", "prompt", "chosen", "rejected", "margin", "confidence"]
_JUDGMENTS = [
    "prompt_id",
    "a_id",
    "b_id",
    "order",
    "judge",
    "principle",
    "status",
    "log_odds",
    "constitution",
]
_CANDIDATES = ["prompt_id", "candidate_id", "prompt", "response", "policy"]
_CANDIDATES += ["finish_reason", "sample", "duplicate_of"]
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

    def add(self, judgments: Iterable[Row]) -> None:
        """The judgments of one prompt."""
        asked: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        for row in judgments:
            if row["status"] != "ok" or row["b_id"] is None or row["order"] is None:
                continue
            odds = row["log_odds"]
            self.decided += odds != 0
            self.first += odds > 0 if row["order"] == "ab" else odds < 0
            asked[row["a_id"], row["b_id"], row["judge"], row["principle"]][row["order"]] = odds
        for both in asked.values():
            if len(both) == 2:
                self.lean.add((both["ab"] - both["ba"]) / 2)
                self.agree += _sign(both["ab"]) == _sign(both["ba"])


@dataclass(slots=True)
class Findings:
    """`margins` and `confidences` have two series: pairs kept, and pairs dropped for their margin.
    `unscored`: distinct responses without a score, by why. `planted`: rows by kind."""

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
    planted: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
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

    def add_scores(self, candidates: Sequence[Row], scores: Sequence[Row]) -> None:
        """The responses of one prompt and their scores."""
        policies = {row["candidate_id"]: row["policy"] for row in candidates}
        for row in scores:
            self.scores.add(row["score"])
            self.by_policy[policies[row["candidate_id"]]].add(row["score"])
        scored = {row["candidate_id"] for row in scores}
        for row in candidates:
            if row["candidate_id"] not in scored and row["duplicate_of"] is None:
                self.unscored[_why_unscored(row)] += 1


def find(run: RunDirectory, manifest: Mapping[str, Any]) -> Findings:
    """Everything the report shows that the manifest does not hold."""
    findings, path = Findings(), run.path
    for split in ("train", "test"):
        for row in _rows(path / "dpo" / f"{split}.parquet", _DPO):
            findings.add_kept(_stored(row))
    _add_prompts(findings, path, Recall(manifest))
    for row in _rows(path / "planted.parquet"):
        findings.planted[row["kind"]].append(row)
    _finish_examples(findings, path / "judgments.parquet")
    return findings


def _add_prompts(findings: Findings, path: Path, recall: Recall) -> None:
    judgments = _Beside(path / "judgments.parquet", _JUDGMENTS)
    scores = _Beside(path / "scores.parquet", ["prompt_id", "candidate_id", "score"])
    for prompt_id, group in groupby(_rows(path / "candidates.parquet", _CANDIDATES), itemgetter("prompt_id")):
        candidates, judged = list(group), judgments.take(prompt_id)
        findings.add_scores(candidates, scores.take(prompt_id))
        findings.position.add(judged)
        for preference in recall.below_threshold(candidates, judged):
            findings.add_dropped(_recalled(preference))
    findings.constitution = recall.constitution


class _Beside:
    """Another table in the same order of prompts, read along."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._groups = groupby(_rows(path, columns), itemgetter("prompt_id"))
        self._advance()

    def _advance(self) -> None:
        self._prompt_id, group = next(self._groups, (None, iter(())))
        self._group = list(group)

    def take(self, prompt_id: str) -> list[Row]:
        if self._prompt_id != prompt_id:
            return []
        found = self._group
        self._advance()
        return found


def _rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    return read_table(path, columns) if path.exists() else iter(())


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _why_unscored(row: Row) -> str:
    if row["finish_reason"] == "length":
        return "cut by the token limit"
    return "without a verdict" if row["response"].strip() else "empty"


def _stored(row: Row) -> Example:
    return Example(**row | {name: _text(row[name]) for name in ("prompt", "chosen", "rejected")})


def _recalled(preference: Preference) -> Example:
    chosen, rejected = preference.chosen, preference.rejected
    return Example(
        *(preference.prompt.id, chosen.id, rejected.id),
        *(preference.prompt.text, chosen.text, rejected.text),
        *(preference.margin, preference.confidence),
    )


def _text(value: str | list[dict[str, str]]) -> str:
    """A prompt or response of either format as one string."""
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return value[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in value)


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
        for row in pq.read_table(path, columns=columns, filters=[("prompt_id", "in", prompt_ids)]).to_pylist():
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

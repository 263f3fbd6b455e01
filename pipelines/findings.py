"""What a finished run shows, counted in one pass over its tables.

Memory holds the rows of one prompt, a few bins and a handful of examples, however long the run was.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nlargest, nsmallest
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from judges.constitution import Constitution, load_constitution
from pipelines.generate_config import PairingConfig
from prefgen.errors import InputError
from prefgen.messages import parse_messages
from prefgen.pairing import PairingRule, pair_up
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.run import RunDirectory
from prefgen.tables import read_table
from prefgen.verdicts import settle

Row = dict[str, Any]
KEPT, DROPPED = 0, 1
CHOSEN, REJECTED = 0, 1
_SHOWN = 3
_BELOW_ONE = 1 - 1e-9
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
_CANDIDATES = [
    *("candidate_id", "prompt_id", "prompt", "response", "policy"),
    *("finish_reason", "sample", "duplicate_of"),
]


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
        return math.sqrt(self._squares / (self.n - 1)) if self.n > 1 else None


class Tally:
    """A histogram of one or more series over shared bins [k·width, (k+1)·width). The range need not be
    known: bins are merged two by two whenever there would be more than `most`."""

    def __init__(self, width: float, series: int = 1, most: int = 24) -> None:
        self.width, self.most = width, most
        self.bins: list[Counter[int]] = [Counter() for _ in range(series)]
        self.low = self.high = 0

    def add(self, value: float, series: int = 0) -> None:
        place = math.floor(value / self.width)
        self.low, self.high = (min(self.low, place), max(self.high, place)) if self.n else (place, place)
        self.bins[series][place] += 1
        while self.high - self.low >= self.most:
            self._merge()

    def _merge(self) -> None:
        self.width *= 2
        self.low, self.high = self.low // 2, self.high // 2
        for series, bins in enumerate(self.bins):
            merged: Counter[int] = Counter()
            for place, count in bins.items():
                merged[place // 2] += count
            self.bins[series] = merged

    @property
    def n(self) -> int:
        return sum(bins.total() for bins in self.bins)


class Few:
    """The `_SHOWN` examples with the largest, or smallest, margin."""

    def __init__(self, largest: bool) -> None:
        self._take = partial(nlargest if largest else nsmallest, _SHOWN)
        self.items: list[Example] = []

    def add(self, example: Example) -> None:
        self.items = self._take([*self.items, example], key=lambda item: item.margin)


@dataclass(frozen=True, slots=True)
class Example:
    """A pair as text. `reasons`: (what the judge was asked, what it wrote)."""

    prompt_id: str
    prompt: str
    chosen_id: str
    chosen: str
    rejected_id: str
    rejected: str
    margin: float
    confidence: float
    reasons: tuple[tuple[str, str], ...] = ()

    @property
    def ids(self) -> tuple[str, str]:
        return self.chosen_id, self.rejected_id


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
        pooled = math.sqrt(((chosen.sd or 0.0) ** 2 + (rejected.sd or 0.0) ** 2) / 2)
        return (chosen.mean - rejected.mean) / pooled if pooled else None


@dataclass(slots=True)
class Position:
    """`lean`: b = (z_ab - z_ba) / 2 in log-odds, over questions asked in both orders."""

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
        for odds in asked.values():
            if len(odds) == 2:
                self.lean.add((odds["ab"] - odds["ba"]) / 2)
                self.agree += _sign(odds["ab"]) == _sign(odds["ba"])


@dataclass(slots=True)
class Findings:
    """`margins` and `confidences` have two series: pairs kept, and pairs dropped for their margin."""

    margins: Tally = field(default_factory=lambda: Tally(1 / 64, series=2))
    confidences: Tally = field(default_factory=lambda: Tally(0.025, series=2))
    clearest: Few = field(default_factory=lambda: Few(largest=True))
    nearest: Few = field(default_factory=lambda: Few(largest=False))
    dropped: Few = field(default_factory=lambda: Few(largest=True))
    lengths: Lengths = field(default_factory=Lengths)
    scores: Tally = field(default_factory=lambda: Tally(1 / 64))
    by_policy: dict[str, Moments] = field(default_factory=lambda: defaultdict(Moments))
    position: Position = field(default_factory=Position)
    unfinished: Counter[str] = field(default_factory=Counter)
    planted: dict[str, list[Row]] = field(default_factory=dict)
    constitution: str | None = None

    def add_margin(self, series: int, example: Example) -> None:
        self.margins.add(example.margin, series)
        self.confidences.add(min(example.confidence, _BELOW_ONE), series)


def find(run: RunDirectory, manifest: Mapping[str, Any]) -> Findings:
    """Everything the report shows that the manifest does not hold."""
    findings = Findings()
    for split in ("train", "test"):
        for row in rows(run.path / "dpo" / f"{split}.parquet"):
            _add_pair(findings, _example(row))
    _add_prompts(findings, run.path, manifest)
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows(run.path / "planted.parquet"):
        by_kind[row["kind"]].append(row)
    findings.planted = dict(by_kind)
    _separate(findings)
    for few in (findings.clearest, findings.nearest, findings.dropped):
        few.items = [with_reasons(run.path / "judgments.parquet", item) for item in few.items]
    return findings


def rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """The rows of a table; none where there is no table."""
    return read_table(path, columns) if path.exists() else iter(())


def text_of(value: str | list[dict[str, str]]) -> str:
    """A prompt or response of either format as one string."""
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return value[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in value)


def _example(row: Row) -> Example:
    texts = {name: text_of(row[name]) for name in ("prompt", "chosen", "rejected")}
    same = ("prompt_id", "chosen_id", "rejected_id", "margin", "confidence")
    return Example(**texts, **{name: row[name] for name in same})


def _add_pair(findings: Findings, example: Example) -> None:
    findings.add_margin(KEPT, example)
    findings.clearest.add(example)
    findings.nearest.add(example)
    findings.lengths.add(len(example.chosen), len(example.rejected))


def _separate(findings: Findings) -> None:
    """In a run of few pairs, a pair that is among the clearest is not shown again."""
    shown = {item.ids for item in findings.clearest.items}
    findings.nearest.items = [item for item in findings.nearest.items if item.ids not in shown]


class _Beside:
    """Another table in the same order of prompts, read along."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._groups = groupby(rows(path, columns), itemgetter("prompt_id"))
        self._next()

    def _next(self) -> None:
        self._id, group = next(self._groups, (None, iter(())))
        self._rows = list(group)

    def take(self, prompt_id: str) -> list[Row]:
        if self._id != prompt_id:
            return []
        found = self._rows
        self._next()
        return found


def _add_prompts(findings: Findings, path: Path, manifest: Mapping[str, Any]) -> None:
    judgments = _Beside(path / "judgments.parquet", _JUDGMENTS)
    scores = _Beside(path / "scores.parquet", ["prompt_id", "candidate_id", "score"])
    recall = _Recall(manifest)
    for prompt_id, group in groupby(rows(path / "candidates.parquet", _CANDIDATES), itemgetter("prompt_id")):
        candidates, judged = list(group), judgments.take(prompt_id)
        _add_scores(findings, candidates, scores.take(prompt_id))
        findings.position.add(judged)
        for preference in recall.below_threshold(candidates, judged):
            example = _recalled(preference)
            findings.add_margin(DROPPED, example)
            findings.dropped.add(example)
    findings.constitution = recall.constitution_name


def _add_scores(findings: Findings, candidates: list[Row], scores: list[Row]) -> None:
    policies = {row["candidate_id"]: row["policy"] for row in candidates}
    scored = {row["candidate_id"] for row in scores}
    for row in scores:
        findings.scores.add(row["score"])
        findings.by_policy[policies[row["candidate_id"]]].add(row["score"])
    for row in candidates:
        if row["candidate_id"] not in scored and row["duplicate_of"] is None:
            findings.unfinished[_unscored(row)] += 1


def _unscored(row: Row) -> str:
    if row["finish_reason"] == "length":
        return "cut by the token limit"
    return "without a verdict" if row["response"].strip() else "empty"


class _Recall:
    """Pairs that the margin rule dropped: no table holds them, so pairing is done again without it."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        config = manifest["config"]
        known = {name: config[name] for name in PairingConfig.model_fields if name in config}
        self._rule: PairingRule = PairingConfig.model_validate(known).rule
        self._wanted = bool(manifest["counts"]["dropped"].get("margin"))
        self._by_principle = config.get("principles") == "each" and config.get("judging") == "pairwise"
        self._name = config.get("constitution") if config.get("judge") else None
        self._constitution = _constitution(self._name)
        self._hash: str | None = None

    def below_threshold(self, candidates: list[Row], judged: list[Row]) -> list[Preference]:
        self._hash = self._hash or next((row["constitution"] for row in judged), None)
        if not self._wanted or (self._weighted and not self._same_constitution):
            return []
        found = {row["candidate_id"]: _candidate(row) for row in candidates if row["duplicate_of"] is None}
        weights = self._constitution.weights if self._constitution and self._weighted else {}
        standing = settle(list(found), map(_result, judged), weights)
        prompt = Prompt(candidates[0]["prompt_id"], parse_messages(candidates[0]["prompt"]))
        rule = replace(self._rule, min_confidence=0.5, max_pairs=len(found) ** 2)
        paired = pair_up(prompt, list(found.values()), standing, rule)
        return [item for item in paired.preferences if item.confidence < self._rule.min_confidence]

    @property
    def _weighted(self) -> bool:
        return self._by_principle

    @property
    def _same_constitution(self) -> bool:
        return self._constitution is not None and self._constitution.hash == self._hash

    @property
    def constitution_name(self) -> str | None:
        if self._name is None:
            return None
        same = self._constitution is not None and self._same_constitution
        name = self._constitution.id if same and self._constitution else Path(self._name).name
        return f"{name} (hash {self._hash})" if self._hash else name


def _constitution(name: str | None) -> Constitution | None:
    try:
        return load_constitution(name) if name else None
    except InputError:
        return None

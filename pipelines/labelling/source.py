"""Where the pairs come from: a pairs file, a labels file, or a finished run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from judges.items import collect
from pipelines.calibration.labelling import pairing_from
from pipelines.labelling.config import DrawFrom, LabelConfig
from pipelines.labelling.item import ADJUDICATOR, UNNAMED, Item
from pipelines.publish import undecided_row
from pipelines.stored import stored
from prefgen.errors import InputError, UsageError
from prefgen.judgment import Verdict
from prefgen.labels import LabelledPair, Pair, read_labels, read_pairs
from prefgen.messages import content_hash, parse_messages
from prefgen.pairing import pair_up
from prefgen.preference import Preference
from prefgen.records import read_records
from prefgen.rows import as_text
from prefgen.run import RunDirectory
from prefgen.tables import read_table
from prefgen.verdict_file import read_verdicts

_PAIR = {"prompt", "chosen", "rejected", "pair_id", "prompt_id", "chosen_id", "rejected_id"}
_PAIR |= {"margin", "confidence", "slot_bias"}
_ENDLESS = 10**9
Votes = Mapping[str, tuple[tuple[str, Verdict], ...]]
"""Labels a file holds already, by pair: (annotator, label)."""


class FromFile:
    """The pairs of a file. `verdicts`: a file of a judge's; else those that stand in the rows themselves."""

    judge: str | None = None

    def __init__(self, path: Path, verdicts: Path | None) -> None:
        rows = list(read_records(path))
        self.votes: Votes = {}
        if any(row.values.get("label") is not None for row in rows):
            labelled = read_labels(path)
            self._pairs = [told.pair for told in labelled]
            self.votes = {told.pair.id: _votes(told) for told in labelled}
        else:
            self._pairs = list(read_pairs(path))
        told_by = path if any("verdict" in row.values for row in rows) else None
        self._margins = self._heard(verdicts or told_by)

    def items(self) -> Iterator[Item]:
        for pair in self._pairs:
            margin, columns = self._margins.get(pair.id), pair.prompt.columns
            yield Item(pair.id, pair.prompt.messages, pair.a.text, pair.b.text, margin, columns=columns)

    def _heard(self, path: Path | None) -> dict[str, float]:
        if path is None:
            return {}
        found = collect([_unlabelled(pair) for pair in self._pairs], read_verdicts(path))
        margins = {item.pair.id: item.margin for item in found if item.margin is not None}
        if not margins:
            raise InputError(path, "no usable verdict is on a pair of the file", expected="ids of its pairs")
        return margins


class FromRun:
    """Comparisons of a finished run. Which response is a and which b is drawn by `seed`, but for undecided
    pairs, which keep the sides of undecided.parquet. `judge`: who judged them, where it was one."""

    votes: Votes

    def __init__(self, path: Path, which: DrawFrom, seed: int) -> None:
        self._run, self._which, self._seed = RunDirectory.open(path), which, seed
        self.manifest: dict[str, Any] = self._run.manifest
        self.votes = {}
        asked = [self.manifest["config"].get("reward_model"), *self.manifest["config"].get("judge", ())]
        judges = [name for name in asked if name]
        self.judge = judges[0] if len(judges) == 1 else None

    def items(self) -> Iterator[Item]:
        match self._which:
            case "pairs":
                yield from self._emitted()
            case "undecided":
                yield from map(_undecided, self._compared())
            case "all":
                yield from (
                    self._sided(_item(preference), preference.margin) for preference in self._compared()
                )

    def _emitted(self) -> Iterator[Item]:
        for split in ("train", "test"):
            for row in read_table(self._run.path / "dpo" / f"{split}.parquet"):
                item = Item(
                    row["pair_id"],
                    parse_messages(row["prompt"]),
                    as_text(row["chosen"]),
                    as_text(row["rejected"]),
                    confidence=row["confidence"],
                    columns={name: value for name, value in row.items() if name not in _PAIR},
                )
                yield self._sided(item, row["margin"])

    def _compared(self) -> Iterator[Preference]:
        """All pairs of responses the judge can tell apart or not, or only those that were not clear enough;
        as the run's own pairing sees them."""
        pairing = pairing_from(self.manifest)
        rule = replace(pairing.rule, strategy="all", max_pairs=_ENDLESS)
        for prompt, sampled, results in stored(self._run):
            if self._which == "undecided":
                yield from pairing.outcome(prompt, sampled, results).paired.unsure
                continue
            standing = pairing.standing(sampled.distinct, results)
            paired = pair_up(prompt, sampled.distinct, standing, rule)
            yield from (*paired.preferences, *paired.unsure)

    def _sided(self, item: Item, margin: float) -> Item:
        """`item` has the response of `margin`'s favour as a."""
        if int(content_hash([self._seed, "label", item.id]), 16) % 2:
            return replace(item, a=item.b, b=item.a, margin=-margin)
        return replace(item, margin=margin)


Source = FromFile | FromRun


def source_of(config: LabelConfig) -> Source:
    """Raises InputError, UsageError where an option does not go with it."""
    if not config.source.is_dir():
        for name, given in (
            ("--audit", config.audit is not None),
            ("--draw-from", config.draw_from != "all"),
        ):
            if given:
                raise UsageError(f"{name} goes with a finished run, and {config.source} is a file")
        return FromFile(config.source, config.verdicts)
    if config.verdicts is not None:
        raise UsageError("--verdicts goes with a file: a run holds its judge's verdicts")
    return FromRun(config.source, "pairs" if config.audit is not None else config.draw_from, config.seed)


def _item(preference: Preference) -> Item:
    prompt = preference.prompt
    return Item(
        preference.id,
        prompt.messages,
        preference.chosen.text,
        preference.rejected.text,
        confidence=preference.confidence,
        columns=prompt.columns,
    )


def _undecided(preference: Preference) -> Item:
    row = undecided_row(preference)
    chosen_first = row["a_id"] == preference.chosen.id
    return replace(
        _item(preference),
        id=row["id"],
        a=row["response_a"],
        b=row["response_b"],
        margin=preference.margin if chosen_first else -preference.margin,
    )


def _votes(told: LabelledPair) -> tuple[tuple[str, Verdict], ...]:
    """Each with a name: who is not named in the file is numbered."""
    named = zip(told.annotators, told.labels, strict=True)
    votes = [(name or f"{UNNAMED}{place}", label) for place, (name, label) in enumerate(named)]
    return (*votes, *([(ADJUDICATOR, told.settled)] if told.settled is not None else []))


def _unlabelled(pair: Pair) -> LabelledPair:
    return LabelledPair(pair, ("tie",), (None,))

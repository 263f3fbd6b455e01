"""`lineage.parquet`: from every pair to who wrote it, who judged it and what was trained on it, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.rlaif.config import LoopConfig
from pipelines.rlaif.data import OWN
from pipelines.rlaif.places import RoundPlace, weights_in
from prefgen.tables import TableWriter, read_table

LINEAGE = pa.schema(
    [
        ("pair_id", pa.string()),
        ("round", pa.int64()),
        ("source", pa.string()),
        ("prompt_id", pa.string()),
        ("chosen_id", pa.string()),
        ("rejected_id", pa.string()),
        ("chosen_policy", pa.string()),
        ("rejected_policy", pa.string()),
        ("policy_identity", pa.string()),
        ("judge", pa.string()),
        ("margin", pa.float64()),
        ("confidence", pa.float64()),
        ("split", pa.string()),
        ("model", pa.string()),
        ("model_identity", pa.string()),
    ]
)


def write_lineage(config: LoopConfig, records: list[Mapping[str, Any]]) -> None:
    """One row a pair of every round. `source`: the round's run, or the file of a given pair; `model`: what
    was trained on it (split train) or looked at it (test), null where an online stage needed no pairs."""
    table = TableWriter(config.out / "lineage.parquet", LINEAGE)
    try:
        for record in records:
            place = RoundPlace(config.out, record["round"])
            for row in _rows(config, place, record):
                table.append(row)
    except BaseException:
        table.abandon()
        raise
    table.publish()


def _rows(config: LoopConfig, place: RoundPlace, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    common = {"round": place.number, **_trained_on(config, place, record)}
    pairs = [
        row | {"split": split}
        for split in ("train", "test")
        for row in read_table(place.run / "dpo" / f"{split}.parquet", _COLUMNS)
    ]
    wrote = _writers(place.run, {row[side] for row in pairs for side in ("chosen_id", "rejected_id")})
    for row in pairs:
        yield common | {
            **row,
            "source": record["run"],
            "chosen_policy": wrote[row["chosen_id"]],
            "rejected_policy": wrote[row["rejected_id"]],
            "policy_identity": record["policy"]["before"]["identity"],
            "judge": record["judge"],
        }
    for name, source in _given(config, place):
        yield common | {"pair_id": name, "source": source, "split": "train"}


_COLUMNS = ["pair_id", "prompt_id", "chosen_id", "rejected_id", "margin", "confidence"]


def _writers(run: Path, wanted: set[str]) -> dict[str, str]:
    rows = read_table(run / "candidates.parquet", ["candidate_id", "policy"])
    return {row["candidate_id"]: row["policy"] for row in rows if row["candidate_id"] in wanted}


def _trained_on(config: LoopConfig, place: RoundPlace, record: Mapping[str, Any]) -> dict[str, str | None]:
    if not config.train.stage.online:
        return {"model": record["model"], "model_identity": record["policy"]["after"]["identity"]}
    if config.train.reward != "trained":
        return {"model": None, "model_identity": None}
    reward = weights_in(place.folder / "reward")
    return {"model": str(reward.relative_to(config.out)), "model_identity": None}


def _given(config: LoopConfig, place: RoundPlace) -> Iterator[tuple[str, str]]:
    """(id, file) of the given pairs in a round's training file."""
    if config.file.given_pairs is None or not place.mixed.exists():
        return
    given = (row for row in read_table(place.mixed, ["pair_id", "source"]) if row["source"] != OWN)
    # A pair in a file of labels is two rows.
    yield from dict.fromkeys((row["pair_id"], row["source"]) for row in given)

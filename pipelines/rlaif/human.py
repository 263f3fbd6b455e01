"""The human check: some of a round's pairs, blinded, for a person to label before the round is trained on."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from judges.intervals import clopper_pearson
from pipelines.rlaif.config import HumanCheck
from pipelines.rlaif.places import RoundPlace
from prefgen.errors import GateError, InputError
from prefgen.files import json_lines, write_json, write_whole
from prefgen.labels import LabelledPair, read_labels
from prefgen.messages import content_hash
from prefgen.rows import as_text
from prefgen.tables import read_table


def checked(place: RoundPlace, check: HumanCheck, seed: int) -> dict[str, Any]:
    """What people say of the round's labels: `n agreement ci n_ties`.

    Raises GateError, resumable, until the labels are there, and where they agree too little.
    """
    asked, labels = place.folder / "check.jsonl", place.folder / "labels.jsonl"
    rows = list(check_rows(place.run, check.pairs, seed))
    if not rows:
        raise GateError(f"{place.run} has no pair for people to check; see its report for why")
    if not asked.exists():
        shown = ({name: row[name] for name in ("id", "prompt", "response_a", "response_b")} for row in rows)
        write_whole(asked, json_lines(shown))
    if not labels.exists():
        raise GateError(
            f"round {place.number} waits for people: {len(rows)} pairs stand in {asked}\n"
            f"  fix: prefgen label {shlex.quote(str(asked))} --out {shlex.quote(str(labels))}\n"
            f'  (or write them to {labels} with a column "label": a, b or tie), then run the same command '
            "with --resume"
        )
    found = agreement(rows, read_labels(labels), labels)
    write_json(place.folder / "human.json", found)
    if found["agreement"] is not None and found["agreement"] < check.min_agreement:
        low, high = found["ci"]
        raise GateError(
            f"people agree with {found['agreement']:.0%} [{low:.0%}, {high:.0%}] of the labels of round "
            f"{place.number} ({found['n']} pairs), less than the {check.min_agreement:.0%} asked for, so it "
            f"is not trained on\n  fix: read {labels} beside {place.run}; then another judge or "
            "constitution, or a lower human_check.min_agreement"
        )
    return found


def check_rows(run: Path, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` of a run's pairs at random; `chosen` says which side was. Which side is which is drawn too."""
    pairs = [row for split in ("train", "test") for row in read_table(run / "dpo" / f"{split}.parquet")]
    pairs.sort(key=lambda row: str(row["pair_id"]))
    drawn = random.Random(content_hash([seed, "check"])).sample(pairs, min(count, len(pairs)))
    for row in drawn:
        side = "ab"[int(content_hash([seed, "side", row["pair_id"]]), 16) % 2]
        other = "b" if side == "a" else "a"
        yield {
            "id": row["pair_id"],
            "prompt": row["prompt"],
            f"response_{side}": as_text(row["chosen"]),
            f"response_{other}": as_text(row["rejected"]),
            "chosen": side,
        }


def agreement(rows: list[dict[str, Any]], labelled: list[LabelledPair], path: Path) -> dict[str, Any]:
    """Share of the pairs that people decide the same way, with its exact 95% interval (Clopper-Pearson); ties
    are counted and left out. Raises InputError where a pair has no label or other responses."""
    by_id = {item.pair.id: item.majority for item in labelled}
    shown = {row["id"]: (row["response_a"], row["response_b"]) for row in rows}
    for item in labelled:
        if shown.get(item.pair.id, (item.pair.a.text, item.pair.b.text)) != (
            item.pair.a.text,
            item.pair.b.text,
        ):
            raise InputError(path, f"the pair {item.pair.id!r} shows other responses than check.jsonl")
    missing = [row["id"] for row in rows if row["id"] not in by_id]
    if missing:
        raise InputError(
            path,
            f"{len(missing)} of {len(rows)} pairs have no label, the first being {missing[0]!r}",
            fix="label the others too, then run the same command with --resume",
        )
    decided = [row for row in rows if by_id[row["id"]] != "tie"]
    same = sum(by_id[row["id"]] == row["chosen"] for row in decided)
    return {
        "n": len(decided),
        "agreement": same / len(decided) if decided else None,
        "ci": list(clopper_pearson(same, len(decided))) if decided else None,
        "n_ties": len(rows) - len(decided),
    }

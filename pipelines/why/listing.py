"""Some pairs of a run, so that there is an id to ask about."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest, nsmallest
from itertools import islice
from typing import Any

from prefgen.rows import as_text
from prefgen.run import RunDirectory
from prefgen.tables import read_table

_EACH = 5


def listed(run: RunDirectory) -> dict[str, Any]:
    """The pairs that are least sure, the surest, and some that wait for people."""
    waiting = read_table(run.path / "undecided.parquet", ["id", "prompt_id", "prompt"])
    return {
        "run": str(run.path),
        "counts": {name: run.manifest["counts"][name] for name in ("pairs", "unsure")},
        "least_sure": nsmallest(_EACH, _pairs(run), key=_sureness),
        "surest": nlargest(_EACH, _pairs(run), key=_sureness),
        "undecided": [
            {"pair_id": row["id"], "prompt_id": row["prompt_id"], "prompt": as_text(row["prompt"])}
            for row in islice(waiting, _EACH)
        ],
    }


def _pairs(run: RunDirectory) -> Iterator[dict[str, Any]]:
    columns = ["pair_id", "prompt_id", "prompt", "confidence", "margin"]
    for split in ("train", "test"):
        for row in read_table(run.path / "dpo" / f"{split}.parquet", columns):
            yield {**row, "prompt": as_text(row["prompt"]), "split": split}


def _sureness(row: dict[str, Any]) -> tuple[float, float, str]:
    return row["confidence"], row["margin"], row["pair_id"]

"""The tables of a run as an audit reads them: pairs as numbers, prompts one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from judges.effects import FEATURES
from judges.intervals import Array
from prefgen.errors import InputError
from prefgen.messages import content_hash
from prefgen.rows import as_text
from prefgen.run import RunDirectory
from prefgen.surface import surface
from prefgen.tables import read_table

Row = dict[str, Any]
SPLITS = ("train", "test")
_TABLES = ("candidates.parquet", "judgments.parquet", *(f"dpo/{split}.parquet" for split in SPLITS))
_PAIR = ["pair_id", "prompt_id", "chosen_id", "rejected_id", "margin", "confidence"]
_PAIR += ["prompt", "chosen", "rejected"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of both splits in their order, without their texts. `chosen`, `rejected`: surface counts,
    shape (n, 5). `answers`: a hash of each chosen text, white space aside."""

    prompt_ids: list[str] = field(default_factory=list)
    chosen_ids: list[str] = field(default_factory=list)
    rejected_ids: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    chosen: Array = field(default_factory=lambda: np.zeros((0, len(FEATURES))))
    rejected: Array = field(default_factory=lambda: np.zeros((0, len(FEATURES))))

    def __len__(self) -> int:
        return len(self.prompt_ids)


def check_tables(run: RunDirectory) -> None:
    """Raises InputError where a table of the run is gone or cannot be read."""
    import pyarrow
    import pyarrow.parquet

    for name in _TABLES:
        path = run.path / name
        try:
            pyarrow.parquet.read_schema(path)
        except (OSError, pyarrow.ArrowException) as error:
            what = "a table of the run is missing" if not path.exists() else "a broken Parquet file"
            raise InputError(path, what, fix="restore it, or make the run again") from error


def pair_rows(path: Path) -> Iterator[Row]:
    """The rows of both splits; prompt, chosen and rejected as strings whatever the run's format."""
    for split in SPLITS:
        for row in read_table(path / "dpo" / f"{split}.parquet", _PAIR):
            texts = {name: as_text(row[name]) for name in ("prompt", "chosen", "rejected")}
            yield row | texts | {"split": split}


def read_pairs(path: Path) -> Pairs:
    """One pass over the datasets of the run at `path`."""
    pairs = Pairs()
    counts: list[list[list[int]]] = []
    for row in pair_rows(path):
        pairs.prompt_ids.append(row["prompt_id"])
        pairs.chosen_ids.append(row["chosen_id"])
        pairs.rejected_ids.append(row["rejected_id"])
        pairs.splits.append(row["split"])
        pairs.answers.append(content_hash(" ".join(row["chosen"].split())))
        counts.append([list(surface(row[side]).as_dict().values()) for side in ("chosen", "rejected")])
    both = np.array(counts, np.float64).reshape(len(counts), 2, len(FEATURES))
    return replace(pairs, chosen=both[:, 0], rejected=both[:, 1])


def prompts_of(path: Path) -> Iterator[tuple[str, list[dict[str, str]], list[Row]]]:
    """(id, messages, rows of the candidates table) of each prompt of the run."""
    columns = ["prompt_id", "prompt", "candidate_id", "response", "policy", "finish_reason", "duplicate_of"]
    rows = read_table(path / "candidates.parquet", columns)
    for prompt_id, group in groupby(rows, itemgetter("prompt_id")):
        candidates = list(group)
        yield prompt_id, candidates[0]["prompt"], candidates

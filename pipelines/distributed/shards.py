"""The prompts of a run in shards, and what is done of them, on the driver's disk.

    plan.json        how many prompts, in shards of how many
    prompts.parquet  one row group a shard
    done/12.parquet  the rows of a shard that came back; 12.owed.parquet where some of them are owed still

A shard's file appears whole or not at all, so a run killed at any moment knows what it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.distributed.rows import SCHEMA, Row, fresh_row, is_owed, started_again
from prefgen.files import write_json
from prefgen.prompt import Prompt
from prefgen.tables import TableWriter

MOST = 128
_PER_WORKER = 4
"""Shards for each worker at least, where there are so many prompts: the last ones are not waited for long."""


class Shards:
    """`count` shards in `folder`, of `size` prompts but for the last."""

    def __init__(self, folder: Path, prompts: int, size: int) -> None:
        self._folder, self._prompts, self.size = folder, prompts, size
        self.count = -(-prompts // size)

    @classmethod
    def plan(cls, folder: Path, prompts: Iterable[tuple[Prompt, bool]], count: int, size: int) -> Shards:
        """Those of an unfinished run as they were begun, or new ones of `count` prompts, each with whether it
        carries planted pairs."""
        plan = folder / "plan.json"
        if plan.is_file():
            return cls(folder, **json.loads(plan.read_text()))
        writer = TableWriter(folder / "prompts.parquet", SCHEMA, chunk=size)
        for number, (prompt, planted) in enumerate(prompts):
            writer.append(fresh_row(number // size, number % size, prompt, planted))
        writer.publish()
        write_json(plan, {"prompts": count, "size": size})
        return cls(folder, count, size)

    def length(self, shard: int) -> int:
        return min(self.size, self._prompts - shard * self.size)

    def owed(self) -> list[int]:
        """The shards that are not whole, in order."""
        return [shard for shard in range(self.count) if not self._whole(shard).is_file()]

    def rows(self, shard: int) -> list[Row]:
        """A shard as far as it is done."""
        rows: list[Row]
        for path in (self._whole(shard), self._partial(shard)):
            if path.is_file():
                rows = pq.read_table(path).to_pylist()
                break
        else:
            with pq.ParquetFile(self._folder / "prompts.parquet") as file:
                rows = file.read_row_group(shard).to_pylist()
        return rows

    def todo(self, shard: int) -> pa.Table:
        """What is to be done of a shard."""
        owed = [started_again(row) for row in self.rows(shard) if is_owed(row)]
        return pa.Table.from_pylist([row | {"siblings": len(owed)} for row in owed], SCHEMA)

    def save(self, shard: int, rows: Iterable[Row]) -> None:
        """Rows that came back, over what was done of the shard before."""
        places = {row["place"]: row for row in [*self.rows(shard), *rows]}
        whole = not any(map(is_owed, places.values()))
        writer = TableWriter(self._whole(shard) if whole else self._partial(shard), SCHEMA, chunk=self.size)
        for place in sorted(places):
            writer.append(places[place])
        writer.publish()

    def _whole(self, shard: int) -> Path:
        return self._folder / "done" / f"{shard}.parquet"

    def _partial(self, shard: int) -> Path:
        return self._folder / "done" / f"{shard}.owed.parquet"


def shard_size(prompts: int, workers: int) -> int:
    """As large as MOST, but so that every worker has its share."""
    return max(1, min(MOST, -(-prompts // (_PER_WORKER * workers))))

"""The shards through the two pools, by Ray Data.

Ray Data runs in an actor, the conductor, on the driver's machine: where it has to be given up, because nodes
were lost, it goes with all its workers when the actor is killed, and another begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from pipelines.distributed.broker import Ask
from pipelines.distributed.cluster import Pool, this_node
from pipelines.distributed.shards import Shards
from pipelines.distributed.workers import Assessor, Job, Sampler

_AT_ONCE = 2
"""Shards a worker is at: the next one is there when the first runs dry."""
_PAUSE = 2.0
_REST = 10.0


class Conductor:
    """Made an actor by `Stream`."""

    def __init__(
        self, shards: Shards, numbers: list[int], job: Job, ask: Ask, policies: Pool, judges: Pool
    ) -> None:
        self._tables = _tables(shards, numbers, job, ask, policies, judges)

    def next(self) -> pa.Table | None:
        """The next table that came back, None after the last."""
        return next(self._tables, None)


class Stream:
    """Shards on their way through the pools; they come back in whatever order. A worker that is lost is
    replaced, and what it was at is done again, by Ray."""

    def __init__(
        self, shards: Shards, numbers: list[int], job: Job, ask: Ask, policies: Pool, judges: Pool
    ) -> None:
        import ray

        made = ray.remote(Conductor).options(num_cpus=0, label_selector=this_node())
        self._conductor: Any = made.remote(shards, numbers, job, ask, policies, judges)
        self._next: asyncio.Future[pa.Table | None] = self._ask()

    def _ask(self) -> asyncio.Future[pa.Table | None]:
        return asyncio.wrap_future(self._conductor.next.remote().future())

    async def tables(self, look: Callable[[], None]) -> AsyncIterator[pa.Table]:
        """`look()` is called whenever nothing has come for a while."""
        while True:
            done, _ = await asyncio.wait([self._next], timeout=_PAUSE)
            if not done:
                look()
                continue
            table = self._next.result()
            if table is None:
                return
            self._next = self._ask()
            yield table

    async def rest(self) -> AsyncIterator[pa.Table]:
        """The same for a short while, until nothing has come for some time or it fails."""
        over = time.monotonic() + _REST
        while time.monotonic() < over and (await asyncio.wait([self._next], timeout=_PAUSE))[0]:
            if self._next.exception() is not None or (table := self._next.result()) is None:
                return
            self._next = self._ask()
            yield table

    def end(self) -> None:
        """With all workers."""
        import ray

        ray.kill(self._conductor)


def _tables(
    shards: Shards, numbers: list[int], job: Job, ask: Ask, policies: Pool, judges: Pool
) -> Iterator[pa.Table]:
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False
    # Prompts are read on this machine alone: no other needs to see its disk.
    dataset = ray.data.read_datasource(
        _source(shards, numbers), override_num_blocks=len(numbers), num_cpus=0, concurrency=1
    )
    for worker, pool in ((Sampler, policies), (Assessor, judges)):
        dataset = dataset.map_batches(
            worker,
            fn_constructor_args=(job, ask),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=pool.workers,
                max_tasks_in_flight_per_actor=_AT_ONCE,
                max_concurrent_calls_per_actor=_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            num_cpus=1,
            num_gpus=pool.gpus,
            scheduling_strategy="SPREAD",
        )
    return iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


def _source(shards: Shards, numbers: list[int]) -> Any:
    """A Ray Data source: one task, and so one block, for each shard that is to be worked on."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Source(Datasource):  # type: ignore[misc]
        @property
        def supports_distributed_reads(self) -> bool:
            return False

        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, parallelism: int, *more: object, **given: object) -> list[Any]:
            about = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(partial(_read, shards, number), about) for number in numbers]

    return Source()


def _read(shards: Shards, number: int) -> list[pa.Table]:
    return [shards.todo(number)]

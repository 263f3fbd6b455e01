"""Everybody who works on a run: two pools of workers and their broker, on one cluster."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from pipelines.console import Console
from pipelines.distributed import cluster
from pipelines.distributed.broker import Broker, Funds, Grant, Need
from pipelines.distributed.cluster import Pool
from pipelines.distributed.shards import Shards
from pipelines.distributed.stream import Stream
from pipelines.distributed.workers import Job
from pipelines.generate_config import GenerateConfig
from prefgen.ledger import Paid

_LOOK = 0.1


@dataclass(frozen=True, slots=True)
class _Asking:
    broker: Any

    async def __call__(self, need: Need) -> Grant:
        grant: Grant = await self.broker.speak.remote(need)
        return grant


class Crew:
    """Use as a context manager: what it starts ends with it. `spent`: by earlier attempts of the run. Raises
    as `cluster.connected`, `cluster.check_nodes` and `cluster.check_room`."""

    def __init__(self, config: GenerateConfig, console: Console, spent: Funds) -> None:
        self._config, self._console, self._spent = config, console, spent
        self._stack = ExitStack()

    def __enter__(self) -> Crew:
        with self._console.step("joining Ray" if self._config.ray_address else "starting Ray"):
            workers = self._config.policy_workers + self._config.judge_workers
            self._stack.enter_context(cluster.connected(self._config.ray_address, workers))
            try:
                cluster.check_nodes()
                self._pools = pools(self._config)
                cluster.check_room(*self._pools)
                self._hire_broker()
            except BaseException:
                self._stack.close()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _hire_broker(self) -> None:
        import ray

        config = self._config
        made = ray.remote(Broker).options(
            name=f"prefgen-{uuid.uuid4().hex}", num_cpus=0, label_selector=cluster.this_node()
        )
        self._broker: Any = made.remote(config.concurrency, config.max_requests, config.max_cost, self._spent)
        self.ask = _Asking(self._broker)

    def stream(self, job: Job, shards: Shards, numbers: list[int]) -> Stream:
        """Shards on their way through the pools."""
        return Stream(shards, numbers, job, self.ask, *self._pools)

    @property
    def is_too_large(self) -> bool:
        """Nodes were lost, and those that are left do not hold the pools: Ray would wait for ever."""
        return not cluster.fits(*self._pools, free=False)

    def shrink(self) -> None:
        """As many workers as there is room for, from the next stream on. Raises UsageError where there is
        none."""
        policies, judges = self._pools
        while not cluster.fits(policies, judges, free=False) and policies.workers + judges.workers > 2:
            if policies.workers > judges.workers:
                policies = replace(policies, workers=policies.workers - 1)
            else:
                judges = replace(judges, workers=judges.workers - 1)
        self._pools = policies, judges
        cluster.check_room(*self._pools)
        self._console.warn(
            f"nodes of the cluster were lost; going on with {policies.workers} workers that sample and "
            f"{judges.workers} that judge"
        )

    async def end_calls(self, grace: float) -> None:
        """Nobody starts a call over the network any more; those in flight get `grace` seconds."""
        await self._broker.end.remote(True)
        for _ in range(int(grace / _LOOK)):
            if await self._broker.finished.remote():
                return
            await asyncio.sleep(_LOOK)

    async def begin_calls(self) -> None:
        """After they were ended."""
        await self._broker.end.remote(False)

    async def take_paid(self) -> list[Paid]:
        paid: list[Paid] = await self._broker.take_paid.remote()
        return paid


def pools(config: GenerateConfig) -> tuple[Pool, Pool]:
    """Who samples and who judges; only models that run in the worker use its GPUs."""
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if cluster.has_gpus() else 0.0

    def pool(workers: int, specs: tuple[str, ...]) -> Pool:
        return Pool(
            workers, gpus if any(spec.startswith(("vllm/", "transformers/")) for spec in specs) else 0.0
        )

    return pool(config.policy_workers, config.policy), pool(config.judge_workers, config.judges)

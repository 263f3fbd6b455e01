"""Who does the work: actors that hold models, each with an engine and a ledger as a local run has them.

A worker never raises what prefgen raises on purpose: it is a row's `error`, so that the driver can keep what
else came back and tell it as a local run would.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.console import Console
from pipelines.distributed.broker import Ask
from pipelines.distributed.leases import Leases
from pipelines.distributed.ledger import NotingLedger, noted, put_all
from pipelines.distributed.rows import SAMPLED, SCHEMA, TOLD, Row, Told, pack, prompt_of, sampled_of, unpack
from pipelines.generate_config import GenerateConfig
from pipelines.judging import calling, roles_of
from pipelines.line import Line, make_line
from pipelines.outcome import Pairing
from pipelines.roles import REWARD, Roles
from prefgen.errors import PrefgenError, UsageError, first_of
from prefgen.ledger import default_path
from prefgen.messages import Json

T = TypeVar("T")
DRIVERS_SHARE = 0.05
COUNTED = ("cached_requests", "retries", "rate_limited")
"""What a worker tells of its calls besides what they cost, which is booked."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker is told. `files`: the content of the config's files, which other machines lack;
    `folder`: the driver's, to which paths are relative."""

    config: GenerateConfig
    files: Mapping[str, bytes]
    pairing: Pairing
    attempt: int
    run: str
    folder: Path


def worker_share(config: GenerateConfig, model: str) -> float:
    """A worker's part of what a provider allows a minute; the driver keeps a little to watch the judge."""
    spec = model.removeprefix(REWARD)
    workers = config.policy_workers * (spec in config.policy) + config.judge_workers * (spec in config.judges)
    return (1 - DRIVERS_SHARE) / max(1, workers)


_SETTLING = 2.0
"""Seconds to wait, where the run ends, for calls that are on their way back."""


class Worker(ABC):
    """Called by Ray Data with shards, several at once from threads of its own; they share one event loop, so
    that the models are never without work between two shards."""

    def __init__(self, job: Job, ask: Ask) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="prefgen-worker", daemon=True).start()
        self._job, self._ask = job, ask
        self._failure: PrefgenError | None = None
        try:
            self._wait(self._open())
        except PrefgenError as error:
            self._failure = error

    def __call__(self, shard: pa.Table) -> pa.Table:
        rows = self._wait(self._all(shard.to_pylist()))
        return pa.Table.from_pylist(rows, SCHEMA)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        with suppress(OSError):  # A machine that has no such folder is told which path it lacks.
            os.chdir(self._job.folder)
        with tempfile.TemporaryDirectory(prefix="prefgen-") as folder:
            await self._open_with(with_files(self._job.config, self._job.files, Path(folder)))

    async def _open_with(self, config: GenerateConfig) -> None:
        share = partial(worker_share, config)
        self._leases = Leases(self._ask, config.max_requests, config.max_cost, share)
        self._ledger = NotingLedger(config.ledger or default_path(), self._leases.book)
        self._roles = replace(
            self._roles_of(config),
            budget=self._leases.budget,
            shared=self._leases.limit,
            run=self._job.run,
        )
        self._line = await self._make_line(config)

    async def _all(self, rows: list[Row]) -> list[Row]:
        done = await asyncio.gather(*map(self._one, rows))
        if done and self._failure is None:
            if any(row["error"] is not None for row in done):
                # The run ends. What comes back now is told of before this worker ends; a call that still
                # waits for its turn will get none.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._roles.settle(), _SETTLING)
            await self._leases.tell()
            done[0]["reports"].append(json.dumps(self._report()))
        return done

    async def _one(self, row: Row) -> Row:
        if row["error"] is not None:
            return row
        notes: dict[bytes, tuple[str, dict[str, Json]]] = {}
        try:
            if self._failure is not None:
                raise self._failure
            if row["known"]:
                await put_all(self._ledger, unpack(row["known"]))
            noted.set(notes)
            made = await self._work(row)
        except (PrefgenError, BaseExceptionGroup) as error:
            known = first_of(error, PrefgenError)
            if known is None:
                raise
            made = {"error": json.dumps([known.exit_code, self._placed(known)])}
        return row | made | {"answers": [*row["answers"], *pack(notes)]}

    def _placed(self, error: PrefgenError) -> str:
        return f"on {socket.gethostname()}: {error}" if isinstance(error, UsageError) else str(error)

    def _report(self) -> dict[str, Any]:
        used = self._roles.take_usage()
        models = {spec: [self._roles.served(spec), self._roles.served_names(spec)] for spec in self._specs}
        return {"used": {name: used[name] for name in COUNTED}, "models": models}

    @abstractmethod
    def _roles_of(self, config: GenerateConfig) -> Roles: ...

    @abstractmethod
    async def _make_line(self, config: GenerateConfig) -> Line: ...

    @abstractmethod
    async def _work(self, row: Row) -> Row: ...

    @property
    @abstractmethod
    def _specs(self) -> tuple[str, ...]: ...


class Sampler(Worker):
    """Holds the policies."""

    def _roles_of(self, config: GenerateConfig) -> Roles:
        return calling(config, self._ledger, Console(quiet=True), config.policy)

    async def _make_line(self, config: GenerateConfig) -> Line:
        return await make_line(config, self._roles, self._job.pairing, self._job.attempt, judging=False)

    async def _work(self, row: Row) -> Row:
        sampled = await self._line.sample(prompt_of(row))
        return {"sampled": SAMPLED.dump_json(sampled).decode()}

    @property
    def _specs(self) -> tuple[str, ...]:
        return self._job.config.policy


class Assessor(Worker):
    """Holds the judges."""

    def _roles_of(self, config: GenerateConfig) -> Roles:
        return roles_of(config, self._ledger, Console(quiet=True))

    async def _make_line(self, config: GenerateConfig) -> Line:
        return await make_line(config, self._roles, self._job.pairing, self._job.attempt, sampling=False)

    async def _work(self, row: Row) -> Row:
        outcome = await self._line.judge(prompt_of(row), sampled_of(row), row["planted"])
        told = Told(tuple(outcome.results), tuple(outcome.planted))
        return {"told": TOLD.dump_json(told).decode()}

    def _report(self) -> dict[str, Any]:
        report = super()._report()
        if (reward := self._job.config.reward_model) is not None:
            report["models"][REWARD + reward] = [self._roles.served(reward, reward=True), []]
        return report | {"principles": dict(self._line.pairing.weighing.principles)}

    @property
    def _specs(self) -> tuple[str, ...]:
        return self._job.config.judge


def with_files(config: GenerateConfig, files: Mapping[str, bytes], folder: Path) -> GenerateConfig:
    """The config with its files where this machine has them."""
    placed: dict[str, Any] = {}
    for number, (name, content) in enumerate(sorted(files.items())):
        path = folder / f"{number}-{Path(name).name}"
        path.write_bytes(content)
        for option in ("constitution", "judge_template", "scale"):
            if str(getattr(config, option)) == name:
                placed[option] = str(path) if option == "constitution" else path
    return config.model_copy(update=placed)

"""prompts → responses → rounds of critique and revision → demonstrations and pairs.

The demonstrations (`sft.parquet`) are what `prefgen train sft --data` reads. The pairs (`pairs.parquet`) hold
response and last revision and say nothing of which is better: a judge decides, as for any other pair.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from judges.constitution import load_constitution
from judges.revision import Revised, Reviser
from pipelines.console import Console
from pipelines.generate_config import RUN_OPTIONS
from pipelines.judging import calling
from pipelines.line import in_order
from pipelines.publish import environment, sha256_of
from pipelines.report.revision import write_revision_page
from pipelines.revise_config import ReviseConfig
from pipelines.roles import Roles
from prefgen import __version__
from prefgen.completion import Sampling
from prefgen.errors import GateError
from prefgen.ledger import Ledger, default_path
from prefgen.messages import as_dicts, content_hash
from prefgen.models import ModelSpec
from prefgen.prompt import read_prompts
from prefgen.run import RunDirectory
from prefgen.sampling import SamplingPlan
from prefgen.tables import MESSAGES, TableWriter

_FAILED = ("api_error", "timeout")
_ROUNDS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("round", pa.int64()),
        ("principle", pa.string()),
        ("critique", pa.string()),
        ("text", pa.string()),
        ("stopped", pa.string()),
    ]
)
_SFT = pa.schema([("prompt", MESSAGES), ("completion", MESSAGES), ("prompt_id", pa.string())])
_PAIRS = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", MESSAGES),
        ("response_a", pa.string()),
        ("response_b", pa.string()),
        ("revision", pa.string()),
    ]
)


@dataclass(slots=True)
class Counts:
    """`failures`: prompts ended by a failed call, owed; `dropped`: prompts without a usable revision."""

    prompts: int = 0
    rounds: int = 0
    sft_rows: int = 0
    pairs: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def failure_share(self) -> float:
        return sum(self.failures.values()) / self.prompts if self.prompts else 0.0


class Tables:
    """`rounds.parquet` with everything that was written, `sft.parquet` and `pairs.parquet`."""

    def __init__(self, out: Path, seed: int) -> None:
        self.counts, self._seed = Counts(), seed
        self._rounds = TableWriter(out / "rounds.parquet", _ROUNDS)
        self._sft = TableWriter(out / "sft.parquet", _SFT)
        self._pairs = TableWriter(out / "pairs.parquet", _PAIRS)

    def append(self, revised: Revised) -> None:
        self.counts.prompts += 1
        self.counts.rounds += len(revised.rounds)
        for row in round_rows(revised):
            self._rounds.append(row)
        if revised.revision is None:
            counter = self.counts.failures if revised.stopped in _FAILED else self.counts.dropped
            counter[revised.stopped or ""] += 1
            return
        prompt = as_dicts(revised.prompt.messages)
        completion = [{"role": "assistant", "content": revised.revision}]
        self._sft.append({"prompt": prompt, "completion": completion, "prompt_id": revised.prompt.id})
        self._pairs.append(pair_row(revised, self._seed))
        self.counts.sft_rows += 1
        self.counts.pairs += 1

    def publish(self) -> None:
        for table in (self._rounds, self._sft, self._pairs):
            table.publish()

    def abandon(self) -> None:
        for table in (self._rounds, self._sft, self._pairs):
            table.abandon()


def round_rows(revised: Revised) -> Iterator[dict[str, Any]]:
    """The response as round 0, then each round; `stopped` is the whole prompt's."""
    common = {"prompt_id": revised.prompt.id, "stopped": revised.stopped}
    yield common | {"round": 0, "text": revised.response}
    for item in revised.rounds:
        yield common | {
            "round": item.number,
            "principle": item.principle,
            "critique": item.critique,
            "text": item.revision,
        }


def pair_row(revised: Revised, seed: int) -> dict[str, Any]:
    """A row of a pairs file. Which side is the revision is drawn, so that no place tells it."""
    side = "ab"[int(content_hash([seed, "side", revised.prompt.id]), 16) % 2]
    other = "b" if side == "a" else "a"
    return {
        "id": revised.prompt.id,
        "prompt": as_dicts(revised.prompt.messages),
        f"response_{side}": revised.revision,
        f"response_{other}": revised.response,
        "revision": side,
    }


async def revise(
    config: ReviseConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The whole job; returns the manifest.

    Raises UsageError and its kin for bad input, GateError when too many prompts failed, BudgetError when
    the budget is used up.
    """
    look_over(config)
    with Ledger(config.ledger or default_path()) as ledger:
        async with calling(config, ledger, console, [config.policy, config.critic]) as roles:
            return await revise_with(config, roles, resume=resume, overwrite=overwrite)


async def revise_with(
    config: ReviseConfig, roles: Roles, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The same with models that a larger job holds open."""
    total, hashes = look_over(config)
    resolved = {"command": "revise", **config.model_dump(mode="json"), "inputs": hashes}
    with RunDirectory.start(
        config.out, resolved, resume=resume, overwrite=overwrite, may_change=RUN_OPTIONS
    ) as run:
        if run.complete and not run.manifest["counts"]["failures"]:
            roles.console.note(f"{config.out} is complete and nothing is owed")
            return run.manifest
        (run.path / "manifest.json").unlink(missing_ok=True)
        if roles.run is None:
            roles.begin(run.id)
        started = time.monotonic()
        counts = await _produce(config, run, roles, total)
        seconds = round(time.monotonic() - started, 3)
        return _finish(config, run, counts, roles, {"inputs": hashes, "timings": {"revise": seconds}})


def look_over(config: ReviseConfig) -> tuple[int, dict[str, str]]:
    """The number of prompts and the hashes of the files; everything a typo can be in, before a call."""
    for spec in {config.policy, config.critic_spec}:
        ModelSpec.parse(spec)
    load_constitution(config.constitution)
    own = Path(config.constitution)
    total = sum(1 for _ in read_prompts(config.prompts))
    return total, sha256_of([config.prompts, *([own] if own.is_file() else [])])


async def _produce(config: ReviseConfig, run: RunDirectory, roles: Roles, total: int) -> Counts:
    reviser = Reviser(
        policy=await roles.model(config.policy),
        critic=await roles.model(config.critic_spec),
        constitution=load_constitution(config.constitution),
        rounds=config.rounds,
        plan=SamplingPlan(
            1, Sampling(config.max_tokens, config.temperature, config.top_p), config.seed, config.system
        ),
    )
    tables = Tables(run.path, config.seed)
    work = (reviser.revise(prompt) for prompt in read_prompts(config.prompts))
    with roles.console.progress("prompts", total, lambda: roles.state) as advance:
        try:
            async for revised in in_order(work, window=config.window):
                tables.append(revised)
                advance()
        except BaseException:
            tables.abandon()
            raise
    tables.publish()
    return tables.counts


def _finish(
    config: ReviseConfig, run: RunDirectory, counts: Counts, roles: Roles, known: Mapping[str, Any]
) -> dict[str, Any]:
    """The gate, then the manifest. The tables are there in either case, to be looked into."""
    if counts.failures:
        run.ended_owing()
    if counts.failure_share > config.max_failure_share:
        raise GateError(
            f"{sum(counts.failures.values())} of {counts.prompts} prompts ended in a failed call, more than "
            f"{config.max_failure_share:.1%} ({_listed(counts.failures)})\n"
            "  fix: --resume asks for the failed ones again"
        )
    constitution = load_constitution(config.constitution)
    manifest = {
        "prefgen_version": __version__,
        "command": "revise",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "models": {"policy": roles.served(config.policy), "critic": roles.served(config.critic_spec)},
        "constitution": {"id": constitution.id, "hash": constitution.hash},
        "counts": asdict(counts) | {"failures": dict(counts.failures), "dropped": dict(counts.dropped)},
        "usage": roles.usage,
        "environment": environment(),
        **known,
    }
    if not counts.pairs:
        roles.console.warn(f"no revision can be used; dropped: {_listed(counts.dropped)}")
    write_revision_page(run, manifest)
    run.write_json("manifest.json", manifest)
    return manifest


def revise_summary(out: Path, manifest: Mapping[str, Any]) -> str:
    """A finished run in a few lines."""
    counts, usage = manifest["counts"], manifest["usage"]
    return "\n".join(
        [
            f"{counts['prompts']} prompts → {counts['rounds']} rounds → {counts['sft_rows']} demonstrations, "
            f"{counts['pairs']} pairs",
            f"dropped: {_listed(counts['dropped'])}; failed: {_listed(counts['failures'])}; "
            f"calls: {usage['requests']} paid, {usage['cached_requests']} from the ledger",
            f"written to {out}: sft.parquet, pairs.parquet, rounds.parquet, report.html",
        ]
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"

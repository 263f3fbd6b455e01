"""prompts → candidates → judgments → preferences → datasets: the main job.

Prompts flow through a bounded window. Each is sampled, judged and paired on its own, so that judging
starts as soon as a prompt's candidates are in; outcomes are written in the order of the file. Resuming
is running again: every answer already paid for comes from the ledger.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from judges.constitution import load_constitution
from judges.judge import Judge
from pipelines.console import Console
from pipelines.generate_config import RUN_OPTIONS, GenerateConfig
from pipelines.judging import check_judging, make_judge, roles_of
from pipelines.outcome import Outcome, Pairing
from pipelines.publish import Publisher, environment, finish_run, sha256_of
from pipelines.roles import Roles
from prefgen import __version__
from prefgen.candidate import Candidate
from prefgen.completion import Sampling
from prefgen.errors import GateError
from prefgen.ledger import Ledger, default_path
from prefgen.models import ModelSpec, family
from prefgen.planted import PlantedResult, check, plant
from prefgen.prompt import Prompt, read_prompts
from prefgen.recorded import RecordedModel
from prefgen.rows import CarriedColumns
from prefgen.run import RunDirectory
from prefgen.sampling import Sampled, SamplingPlan, sample


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one look over the prompt file tells before anything is paid for."""

    prompts: int
    carried: CarriedColumns
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """The production line of one prompt: policies, judge and rules."""

    policies: list[RecordedModel]
    judge: Judge
    plan: SamplingPlan
    pairing: Pairing
    judge_unfinished: bool

    async def run(self, prompt: Prompt, with_planted: bool) -> Outcome:
        sampled = await sample(prompt, self.policies, self.plan)
        judged = [item for item in sampled.distinct if self.judge_unfinished or _finished(item)]
        results = await self.judge.judge(prompt, judged) if len(judged) > 1 else []
        outcome = self.pairing.outcome(prompt, sampled, results)
        return replace(outcome, planted=await self._plant(outcome)) if with_planted else outcome

    async def _plant(self, outcome: Outcome) -> list[PlantedResult]:
        """Known pairs through the same judge, the same algebra and the same rule as the rest.

        They are made from the response that was judged best: nothing is sometimes better than a bad one.
        """
        scores = outcome.standing.scores
        ranked = sorted(outcome.sampled.distinct, key=lambda item: -scores.get(item.id, -math.inf))
        found: list[PlantedResult] = []
        for pair in plant(outcome.prompt, ranked):
            results = await self.judge.judge(outcome.prompt, pair.sides)
            told = self.pairing.outcome(outcome.prompt, Sampled(pair.sides), results)
            found.append(check(pair, told.standing, told.paired, self.pairing.rule.min_confidence))
        return found


def _finished(candidate: Candidate) -> bool:
    return not candidate.truncated and not candidate.empty


def look_over(config: GenerateConfig) -> Inputs:
    """Reads the whole prompt file once, so that a bad line 9,000 is found before a call is paid for."""
    carried = CarriedColumns()
    count = 0
    for prompt in read_prompts(config.prompts):
        carried.see(prompt.columns)
        count += 1
    files = [config.prompts]
    if config.judge is not None and Path(config.constitution).is_file():
        files.append(Path(config.constitution))
    if config.judge_template is not None:
        files.append(config.judge_template)
    return Inputs(count, carried, sha256_of(files))


async def generate(
    config: GenerateConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The whole job with models of its own; returns the manifest.

    Raises UsageError and its kin for bad input, GateError when the result may not be trusted,
    BudgetError when `max_requests` is used up.
    """
    for spec in config.policy:
        ModelSpec.parse(spec)
    check_judging(config)
    with Ledger(config.ledger or default_path()) as ledger:
        async with roles_of(config, ledger, console, config.policy) as roles:
            return await generate_with(config, roles, resume=resume, overwrite=overwrite)


async def generate_with(
    config: GenerateConfig, roles: Roles, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The same with models that a larger job holds open."""
    inputs = look_over(config)
    for warning in warnings_about(config):
        roles.console.warn(warning)
    resolved = config.model_dump(mode="json") | {"inputs": inputs.hashes}
    with RunDirectory.start(
        config.out, resolved, resume=resume, overwrite=overwrite, may_change=RUN_OPTIONS
    ) as run:
        if run.complete and not run.manifest["counts"]["failures"]:
            roles.console.note(f"{config.out} is complete and nothing is owed")
            return run.manifest
        (run.path / "manifest.json").unlink(missing_ok=True)
        started = time.monotonic()
        line = await make_line(config, roles, run.attempt)
        ready = time.monotonic()
        publisher = Publisher(run, config.format, inputs.carried)
        await produce(config, line, publisher, roles, inputs.prompts)
        timings = {"start_models": ready - started, "sample_and_judge": time.monotonic() - ready}
        return finish(config, publisher, roles, inputs, line.pairing.weights, timings)


def warnings_about(config: GenerateConfig) -> Iterator[str]:
    """What is allowed but should be known."""
    for policy in config.policy:
        if config.judge is not None and family(policy) == family(config.judge):
            yield (
                f"{config.judge} judges {policy}, a model of its own family: judges favour their own "
                "writing; a judge of another family is safer"
            )
    if not config.planted:
        yield "no planted pairs: wrong labels of the pipeline itself would go unnoticed"
    if config.judging == "pairwise" and config.judge and not config.both_orders:
        yield "one order only: the judge's liking for a position goes into the labels"


async def make_line(config: GenerateConfig, roles: Roles, attempt: int) -> Line:
    judge = await make_judge(config, roles, attempt)
    return Line(
        policies=[await roles.model(spec) for spec in config.policy],
        judge=judge,
        plan=SamplingPlan(
            config.n,
            Sampling(config.max_tokens, config.temperature, config.top_p),
            config.seed,
            config.system,
        ),
        pairing=Pairing(config.rule, config.kto_labels, judge.weights),
        judge_unfinished=config.judge_unfinished,
    )


async def produce(config: GenerateConfig, line: Line, publisher: Publisher, roles: Roles, total: int) -> None:
    """Runs the line over all prompts and hands the outcomes to the publisher in order."""
    prompts = read_prompts(config.prompts)
    with roles.console.progress("prompts", total, lambda: roles.state) as advance:
        try:
            async for outcome in in_order(line, prompts, config.planted, window=2 * config.concurrency):
                publisher.append(outcome)
                advance()
        except BaseException:
            publisher.abandon()
            raise


async def in_order(
    line: Line, prompts: Iterator[Prompt], planted: int, window: int
) -> AsyncIterator[Outcome]:
    """Outcomes in the order of the prompts, with at most `window` prompts under way."""
    numbered = enumerate(prompts)
    running: deque[asyncio.Task[Outcome]] = deque()
    try:
        while True:
            for number, prompt in islice(numbered, window - len(running)):
                running.append(asyncio.create_task(line.run(prompt, with_planted=number < planted)))
            if not running:
                return
            yield await running[0]
            running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def finish(
    config: GenerateConfig,
    publisher: Publisher,
    roles: Roles,
    inputs: Inputs,
    weights: Mapping[str, float],
    timings: dict[str, float],
) -> dict[str, Any]:
    """Gates, then datasets, card, report, and the manifest last."""
    run, counts = publisher.run, publisher.counts
    publisher.publish_tables()
    if counts.failures:
        run.ended_owing()
    check_gates(config, publisher)
    manifest = {
        "prefgen_version": __version__,
        "command": "generate",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "models": _models(config, roles),
        "constitution": _constitution(config),
        "weights": dict(weights),
        "inputs": inputs.hashes,
        "planted": {"checked": len(publisher.planted), "wrong": 0},
        "usage": roles.usage,
        "expected_label_precision": None,
        "timings": {name: round(seconds, 3) for name, seconds in timings.items()},
        "environment": environment(),
    }
    warn_about(publisher, roles.console, planned=config.planted)
    return finish_run(publisher, config.test_share, manifest)


def warn_about(publisher: Publisher, console: Console, *, planned: int) -> None:
    """What came out strangely, though nothing in it is wrong."""
    if planned and not publisher.planted:
        console.warn(
            "no planted pair could be made: the first prompts have no finished answer of five words; "
            "raise --planted to look further"
        )
    if not publisher.counts.pairs:
        dropped = ", ".join(f"{name} {count}" for name, count in publisher.counts.dropped.most_common())
        console.warn(f"no pair is clear enough; dropped: {dropped or 'none'}")


def _models(config: GenerateConfig, roles: Roles) -> dict[str, Any]:
    """One entry for each role; further policies are `policy_2`, `policy_3` and so on."""
    names = ["policy", *(f"policy_{number}" for number in range(2, len(config.policy) + 1))]
    entries = {name: roles.served(spec) for name, spec in zip(names, config.policy, strict=True)}
    if config.reward_model is not None:
        return entries | {"reward_model": roles.served(config.reward_model, reward=True)}
    return entries | {"judge": roles.served(config.judge or "")}


def _constitution(config: GenerateConfig) -> dict[str, str] | None:
    if config.judge is None:
        return None
    constitution = load_constitution(config.constitution)
    return {"id": constitution.id, "hash": constitution.hash}


def check_gates(config: GenerateConfig, publisher: Publisher) -> None:
    """Raises GateError when a planted pair came out wrong or too many calls failed."""
    out, counts = publisher.run.path, publisher.counts
    wrong = [f"{item.prompt_id}: {item.kind}" for item in publisher.planted if not item.correct]
    if config.both_orders or config.judging == "pointwise":
        wrong += publisher.swap_errors
    if wrong:
        raise GateError(
            f"{len(wrong)} planted pairs whose answer is known came out wrong, so this run's labels cannot "
            "be trusted:\n  " + "\n  ".join(wrong[:10]) + f"\n  fix: see planted.parquet and "
            f"judgments.parquet in {out}; try another judge"
        )
    if counts.failure_share > config.max_failure_share:
        causes = ", ".join(f"{status}: {count}" for status, count in counts.failures.most_common())
        raise GateError(
            f"{counts.failure_share:.1%} of the model calls failed, more than "
            f"{config.max_failure_share:.1%} ({causes})\n  fix: see the raw replies in "
            f"{out / 'judgments.parquet'}; --resume asks for the failed ones again"
        )

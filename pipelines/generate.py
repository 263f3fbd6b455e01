"""prompts → candidates → judgments → preferences → datasets: the main job.

Prompts flow through a bounded window. Each is sampled, judged and paired on its own, so that judging
starts as soon as a prompt's candidates are in; outcomes are written in the order of the file. Resuming
is running again: every answer already paid for comes from the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from judges.constitution import load_constitution
from judges.judge import Judge
from pipelines.calibration.labelling import pairing_of
from pipelines.console import Console
from pipelines.drift import DriftWatch
from pipelines.generate_config import RUN_OPTIONS, GenerateConfig
from pipelines.judging import check_judging, judging_files, make_judge, roles_of, served, served_judges
from pipelines.line import Line, Outcomes, make_line
from pipelines.outcome import Pairing
from pipelines.publish import Publisher, environment, finish_run, sha256_of, warn_of_no_pairs
from pipelines.quote import check_cap, dollars, make_quote, quote_in_words
from pipelines.roles import Roles
from pipelines.signature import signature
from prefgen import __version__
from prefgen.decontamination import Overlap, read_index
from prefgen.errors import BudgetError, GateError, InputError, UsageError, first_of
from prefgen.ledger import Ledger, default_path
from prefgen.models import ModelSpec, family
from prefgen.planted import MUST_HOLD
from prefgen.prices import Price
from prefgen.prompt import Prompt, read_prompts
from prefgen.rows import CarriedColumns
from prefgen.run import RunDirectory
from prefgen.verdicts import Weighing

Quoting: TypeAlias = Literal["no", "before", "only"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one look over the prompt file tells before anything is paid for."""

    prompts: int
    carried: CarriedColumns
    hashes: dict[str, str]
    contaminated: Mapping[str, Overlap]


Make = Callable[[GenerateConfig, Roles, Pairing, RunDirectory, Inputs], Awaitable[Outcomes]]


def look_over(config: GenerateConfig) -> Inputs:
    """Reads the whole prompt file once, so that a bad line 9,000 is found before a call is paid for."""
    carried = CarriedColumns()
    index = read_index(config.decontaminate, config.eval_column)
    contaminated: dict[str, Overlap] = {}
    count = 0
    for prompt in read_prompts(config.prompts, text=config.reference):
        carried.see(prompt.columns)
        found = index.overlaps(*(message.content for message in prompt.messages))
        if found:
            contaminated[prompt.id] = found[0]
        count += 1
    if len(contaminated) == count:
        files = ", ".join(map(str, config.decontaminate))
        raise InputError(config.prompts, f"every prompt stands in {files}; nothing is left to train on")
    read = [config.prompts, *judging_files(config), *_calibration(config), *config.decontaminate]
    return Inputs(count - len(contaminated), carried, sha256_of(read), contaminated)


def _calibration(config: GenerateConfig) -> list[Path]:
    return [config.calibration] if config.calibration is not None and config.calibration.is_file() else []


async def generate(
    config: GenerateConfig,
    console: Console,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quote: bool = False,
) -> dict[str, Any]:
    """The whole job with models of its own; returns the manifest, or with `quote` its quote alone.

    Raises UsageError and its kin for bad input, GateError when the result may not be trusted,
    BudgetError when the budget is used up, or less than the least of the quote.
    """
    for spec in config.policy:
        ModelSpec.parse(spec)
    check_judging(config)
    if config.engine == "ray":
        if quote:
            raise UsageError(
                "--quote asks in this process: leave --engine ray out; what it pays for is kept in the ledger"
            )
        from pipelines.distributed.generate import generate_on_ray

        return await generate_on_ray(config, console, resume=resume, overwrite=overwrite)
    with Ledger(config.ledger or default_path()) as ledger:
        async with roles_of(config, ledger, console, config.policy) as roles:
            prices = [roles.price(spec) for spec in (*config.policy, *config.judges)]
            costs = any(price is not None and not price.free for price in prices)
            quoting: Quoting = "only" if quote else "before" if costs else "no"
            return await generate_with(config, roles, resume=resume, overwrite=overwrite, quoting=quoting)


async def here(
    config: GenerateConfig, roles: Roles, pairing: Pairing, run: RunDirectory, inputs: Inputs
) -> Outcomes:
    """Made in this process."""
    if config.engine == "ray":
        raise UsageError("engine: ray goes with prefgen generate; other jobs make pairs in their own process")
    return await make_line(config, roles, pairing, run.attempt)


async def generate_with(
    config: GenerateConfig,
    roles: Roles,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quoting: Quoting = "no",
    make: Make = here,
) -> dict[str, Any]:
    """The same with models that a larger job holds open. `make`: where the work is done."""
    inputs = look_over(config)
    weighing = Weighing(combine=config.combine)
    pairing, calibrated = pairing_of(config, signature(config), weighing, roles.console)
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
        if roles.run is None:
            roles.begin(run.id)
        started = time.monotonic()
        line = await make(config, roles, pairing, run, inputs)
        quote = None
        if quoting != "no":
            assert isinstance(line, Line), "a quote is made in this process"
            quote = await make_quote(config, line, roles, inputs.prompts, inputs.contaminated)
        if quoting == "only":
            run.take_back()
            return {"quote": quote}
        if quote is not None:
            roles.console.note(quote_in_words(quote))
            check_cap(quote, config.max_cost)
        ready = time.monotonic()
        publisher = Publisher(run, config.format, inputs.carried)
        if inputs.contaminated:
            publisher.counts.dropped["contaminated"] = len(inputs.contaminated)
        watch = drift_watch(config, roles, run, inputs.prompts)
        await produce(config, line, publisher, roles, inputs, watch)
        timings = {"start_models": ready - started, "sample_and_judge": time.monotonic() - ready}
        notes = {"calibration": calibrated, "drift": watch.as_json(), "quote": quote}
        return finish(config, publisher, roles, inputs, line.pairing.weighing, notes, timings)


def warnings_about(config: GenerateConfig) -> Iterator[str]:
    """What is allowed but should be known."""
    for policy in config.policy:
        for judge in config.judge:
            if family(policy) == family(judge):
                yield (
                    f"{judge} judges {policy}, a model of its own family: judges favour their own writing; a "
                    "judge of another family is safer"
                )
    if not config.planted:
        yield "no planted pairs: wrong labels of the pipeline itself would go unnoticed"
    if config.judging == "pairwise" and config.judge and not config.both_orders:
        yield "one order only: the judge's liking for a position goes into the labels"


def drift_watch(config: GenerateConfig, roles: Roles, run: RunDirectory, prompts: int) -> DriftWatch:
    """A model in this process stays what it is: only a judge behind an API is asked again, in a long run. Not
    through batches: each question asked again would wait for one, and the run with it."""

    async def judge(name: str | None) -> Judge:
        return await make_judge(config, roles.again(name), run.attempt)

    remote = not all(spec.startswith(("vllm/", "transformers/")) for spec in config.judge)
    asked_again = remote and not config.batch and prompts > config.drift_every
    every = config.drift_every if asked_again else 0
    return DriftWatch(run, roles, judge, every=every, accept=config.accept_drift)


async def produce(
    config: GenerateConfig,
    line: Outcomes,
    publisher: Publisher,
    roles: Roles,
    inputs: Inputs,
    watch: DriftWatch,
) -> None:
    """Runs the line over all prompts and hands the outcomes to the publisher in order."""
    finished = 0

    def work() -> Iterator[tuple[Prompt, bool]]:
        prompts = (item for item in read_prompts(config.prompts) if item.id not in inputs.contaminated)
        return ((prompt, number < config.planted) for number, prompt in enumerate(prompts))

    def count() -> None:
        nonlocal finished
        finished += 1

    with roles.console.progress("prompts", inputs.prompts, lambda: roles.state) as advance:
        try:
            async with aclosing(line.outcomes(work, count)) as outcomes:
                async for outcome in outcomes:
                    await watch.see(outcome)
                    publisher.append(outcome)
                    advance()
        except BaseException as error:
            publisher.abandon()
            reached = first_of(error, BudgetError)
            if reached is not None:
                raise BudgetError(f"{reached}\n  {pace(roles, finished, inputs.prompts)}") from error
            raise


def pace(roles: Roles, finished: int, prompts: int) -> str:
    """What is left of a run that was stopped, judged by what it took so far."""
    if not finished:
        return f"no prompt of {prompts} is finished yet; --quote tells what they take"
    usage, left = roles.usage, prompts / finished - 1
    cost = "" if usage["cost_usd"] is None else f" and {dollars(usage['cost_usd'] * left)}"
    return (
        f"{finished} of {prompts} prompts are finished; by the pace so far the others take about "
        f"{usage['requests'] * left:,.0f} more requests{cost}"
    )


def finish(
    config: GenerateConfig,
    publisher: Publisher,
    roles: Roles,
    inputs: Inputs,
    weighing: Weighing,
    notes: Mapping[str, Any],
    timings: dict[str, float],
) -> dict[str, Any]:
    """Gates, then datasets, card, report, and the manifest last."""
    run, counts = publisher.run, publisher.counts
    publisher.publish_tables()
    if counts.failures:
        run.ended_owing()
    check_gates(config, publisher)
    usage = roles.usage
    manifest = {
        "prefgen_version": __version__,
        "command": "generate",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "models": _models(config, roles),
        "constitution": _constitution(config),
        "judge": " + ".join(config.judges),
        "judged_by": signature(config),
        **notes,
        "weighing": asdict(weighing),
        "inputs": inputs.hashes,
        "contaminated": {name: _found_at(overlap) for name, overlap in inputs.contaminated.items()},
        "planted": {"checked": len(publisher.planted), "wrong": 0},
        "usage": usage | {"cost_per_pair_usd": per_pair(usage["cost_usd"], counts.pairs)},
        "prices": {spec: _price(roles.price(spec)) for spec in (*config.policy, *config.judges)},
        "timings": {name: round(seconds, 3) for name, seconds in timings.items()},
        "environment": environment(),
    }
    warn_of_changed_policies(config, roles)
    warn_about(config, publisher, roles.console)
    return finish_run(publisher, config.test_share, manifest)


def per_pair(cost: float | None, pairs: int) -> float | None:
    return None if cost is None or not pairs else cost / pairs


def _price(price: Price | None) -> dict[str, Any] | None:
    return None if price is None else asdict(price)


def _found_at(overlap: Overlap) -> dict[str, Any]:
    return {"file": overlap.item.file, "line": overlap.item.line, "share": overlap.share}


def warn_of_changed_policies(config: GenerateConfig, roles: Roles) -> None:
    """A judge that changes pauses the run (`pipelines.drift`); two models' candidates are candidates."""
    for spec in config.policy:
        names = roles.served_names(spec)
        if len(names) > 1:
            roles.console.warn(
                f"{spec} answered as {' and as '.join(names)}: another model took its place in this run, "
                "and the candidates are of both; a name with a date does not change"
            )


def warn_about(config: GenerateConfig, publisher: Publisher, console: Console) -> None:
    """What came out strangely, though nothing in it is wrong."""
    if config.planted and not publisher.planted:
        console.warn(
            "no planted pair could be made: the first prompts have no finished answer of five words; "
            "raise --planted to look further"
        )
    target, mean = config.target_precision, publisher.mean_confidence
    if target is not None and mean is not None and mean < target:
        console.warn(
            f"by the map {mean:.1%} of the labels are right, less than the target of {target:.1%} that the "
            "labelled pairs earned: these pairs seem to be of another kind; label some of them"
        )
    warn_of_no_pairs(publisher, console)


def _models(config: GenerateConfig, roles: Roles) -> dict[str, Any]:
    """One entry for each role; further policies are `policy_2`, `policy_3` and so on."""
    return served("policy", config.policy, roles) | served_judges(config, roles)


def _constitution(config: GenerateConfig) -> dict[str, Any] | None:
    """With its text: whoever asks years later why a pair was kept may not have the file any more."""
    if not config.judge:
        return None
    constitution = load_constitution(config.constitution)
    principles = [principle.model_dump() for principle in constitution.principles]
    return {"id": constitution.id, "hash": constitution.hash, "principles": principles}


def check_gates(config: GenerateConfig, publisher: Publisher) -> None:
    """Raises GateError when a planted pair came out wrong or too many calls failed."""
    out, counts = publisher.run.path, publisher.counts
    wrong = [
        f"{item.prompt_id}: {item.kind}: {MUST_HOLD[item.kind]}"
        + ("" if item.margin is None else f" (margin {item.margin:+.2f})")
        for item in publisher.planted
        if not item.correct
    ]
    if config.both_orders or config.judging != "pairwise":
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

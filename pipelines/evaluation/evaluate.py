"""Is one model better than another? Answers of both to the same prompts, judged blind, with intervals."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from judges.judge import Judge
from judges.sequential import confidence_sequence, first_clear
from pipelines.console import Console
from pipelines.evaluation.alignment_tax import (
    Task,
    check_held_out,
    log_loss,
    log_loss_result,
    read_task,
    task_result,
    tax_warnings,
)
from pipelines.evaluation.annotate import annotate
from pipelines.evaluation.annotations import (
    Annotation,
    as_lines,
    check_difficulties,
    cluster,
    number,
    read_annotations,
)
from pipelines.evaluation.answers import Side, as_file, check_side, open_side
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.human_labels import corrected
from pipelines.evaluation.numbers import caveats, difference, evaluation, failures, preferences
from pipelines.evaluation.page import write_page
from pipelines.generate_config import RUN_OPTIONS
from pipelines.judging import check_judging, make_judge, roles_of, served_judges
from pipelines.publish import environment, sha256_of
from pipelines.roles import Roles, parse_options
from pipelines.uses import record_evaluation
from prefgen import __version__
from prefgen.completion import Sampling
from prefgen.errors import GateError, UsageError
from prefgen.labels import read_labels
from prefgen.ledger import Ledger, default_path
from prefgen.models import family
from prefgen.prompt import Prompt, read_prompts
from prefgen.records import check_unwritten, read_records
from prefgen.run import RunDirectory
from prefgen.sampling import SamplingPlan

_BATCH = 20
"""Prompts between two looks of `--stop-when-clear`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and what the prompt file says of it."""

    prompt: Prompt
    difficulty: float | None
    cluster: str | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that is read before anything is paid for."""

    asked: list[Asked]
    tasks: list[Task]
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """Both sides and the judge between them."""

    model: Side
    baseline: Side
    judge: Judge

    async def run(self, asked: Asked, advance: Callable[[], None]) -> Annotation:
        prompt = asked.prompt
        ours, theirs = await asyncio.gather(self.model.answer(prompt), self.baseline.answer(prompt))
        annotation = await annotate(self.judge, prompt, ours, theirs)
        advance()
        return replace(annotation, difficulty=asked.difficulty, cluster=asked.cluster)


async def evaluate(
    config: EvaluateConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The whole job; returns what `evaluation.json` holds.

    Raises UsageError and its kin for bad input, GateError when too many prompts have no judgment, BudgetError
    when the budget is used up.
    """
    if config.prompts is None or config.out is None:
        return recompute(config, console, overwrite=overwrite)
    inputs = look_over(config, config.prompts)
    resolved = config.model_dump(mode="json") | {"command": "evaluate", "inputs": inputs.hashes}
    with RunDirectory.start(
        config.out, resolved, resume=resume, overwrite=overwrite, may_change=RUN_OPTIONS
    ) as run:
        if run.complete and not run.manifest["counts"]["failures"]:
            console.note(f"{config.out} is complete and nothing is owed")
            result: dict[str, Any] = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
            return result
        (run.path / "manifest.json").unlink(missing_ok=True)
        return await _evaluate(config, inputs, run, console)


def recompute(config: EvaluateConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """The same from stored annotations, without a model; written where `out` is given."""
    assert config.annotations is not None
    target = config.out / "evaluation.json" if config.out else None
    if target is not None:
        check_unwritten(target, overwrite)
    annotations = read_annotations(config.annotations)
    result = _results(config, annotations, None, console, [])
    if config.out is not None:
        write_page(config.out, result, annotations)
        RunDirectory(config.out).write_json("evaluation.json", result)
    return result


def look_over(config: EvaluateConfig, prompts: Path) -> Inputs:
    """Reads every file once, so that a bad line is found before a call is paid for. Raises UsageError."""
    check_judging(config)
    asked = read_asked(prompts)
    if config.stop_when_clear and any(item.cluster for item in asked):
        raise UsageError("--stop-when-clear needs independent prompts, and these have a column cluster")
    for side in config.sides:
        check_side(side, [item.prompt for item in asked])
        if config.task and as_file(side) is not None:
            raise UsageError(f"--task asks both models, and {side} is a file of answers")
    if config.held_out is not None:
        check_held_out(config.held_out, config.sides)
    if config.labels is not None:
        read_labels(config.labels)
    if config.against is not None:
        read_annotations(config.against)
    tasks = [read_task(path) for path in config.task]
    return Inputs(asked, tasks, sha256_of(input_files(config)))


def input_files(config: EvaluateConfig) -> list[Path]:
    """Every file that is read. Raises UsageError for one in the output directory, which may be emptied."""
    given = [config.prompts, config.labels, config.against, config.held_out, *config.task]
    files = [path for path in (*given, *map(as_file, config.sides)) if path is not None]
    for path in files:
        if config.out is not None and path.resolve().parent == config.out.resolve():
            raise UsageError(f"{path} is read, but lies in --out {config.out}; name another directory")
    return files


def read_asked(path: Path) -> list[Asked]:
    """The prompts of a file with their columns `difficulty` and `cluster`. Raises InputError."""
    asked = [
        Asked(prompt, number(path, record, "difficulty"), cluster(path, record))
        for prompt, record in zip(read_prompts(path), read_records(path), strict=True)
    ]
    check_difficulties(path, [item.difficulty for item in asked])
    return asked


async def _evaluate(
    config: EvaluateConfig, inputs: Inputs, run: RunDirectory, console: Console
) -> dict[str, Any]:
    warnings = list(warnings_about(config))
    prompts = [item.prompt for item in inputs.asked]
    plan = SamplingPlan(1, Sampling(config.max_tokens, config.temperature, 1.0), config.seed, config.system)
    models = tuple(side for side in config.sides if as_file(side) is None)
    with Ledger(config.ledger or default_path()) as ledger:
        async with roles_of(config, ledger, console, models) as roles:
            roles.begin(run.id)
            judge = await make_judge(config, roles, run.attempt)
            model, baseline = [await open_side(side, prompts, plan, roles) for side in config.sides]
            annotations = await judge_prompts(config, Line(model, baseline, judge), inputs.asked, roles)
            run.write_text("annotations.jsonl", as_lines(annotations))
            check_failures(annotations, run, config.max_failure_share)
            tasks = {
                str(task.path): await task_result(task, model, baseline, config.seed) for task in inputs.tasks
            }
            manifest = _manifest(config, inputs, annotations, roles)
    # Only now, when the models that answered have left the memory.
    tax = {"log_loss": _log_loss(config, console), "tasks": tasks}
    names = {"model": config.model, "baseline": config.baseline, "n_prompts": len(inputs.asked)}
    warnings += tax_warnings(tax)
    result = names | _results(config, annotations, judge.name, console, warnings) | {"alignment_tax": tax}
    write_page(run.path, result, annotations, manifest)
    run.write_json("evaluation.json", result)
    run.write_json("manifest.json", manifest)
    record_evaluation(config.sides, run.path, config.trained_on)
    return result


async def judge_prompts(
    config: EvaluateConfig, line: Line, asked: Sequence[Asked], roles: Roles
) -> list[Annotation]:
    """All prompts at once in their order; with `stop_when_clear` batch by batch in random order."""
    order, size = list(asked), len(asked)
    if config.stop_when_clear:
        random.Random(config.seed).shuffle(order)
        size = _BATCH
    done: list[Annotation] = []
    with roles.console.progress("prompts", len(order), lambda: roles.state) as advance:
        for start in range(0, len(order), size):
            async with asyncio.TaskGroup() as group:
                batch = order[start : start + size]
                tasks = [group.create_task(line.run(item, advance)) for item in batch]
            done += [task.result() for task in tasks]
            if config.stop_when_clear and is_clear(done):
                break
    return done


def is_clear(annotations: Sequence[Annotation]) -> bool:
    """Whether the interval that allows for looking often leaves out 50%."""
    judged = [item for item in annotations if item.preference is not None]
    return bool(judged) and first_clear(confidence_sequence(preferences(judged))) is not None


def check_failures(annotations: Sequence[Annotation], run: RunDirectory, max_share: float) -> None:
    """Raises GateError when more than `max_share` of the prompts have no judgment."""
    causes = failures(annotations)
    failed = sum(causes.values())
    if failed:
        run.ended_owing()
    if failed > max_share * len(annotations):
        told = ", ".join(f"{cause}: {count}" for cause, count in causes.items())
        raise GateError(
            f"{failed} of {len(annotations)} prompts have no judgment, more than {max_share:.1%} "
            f"({told})\n  fix: see {run.path / 'annotations.jsonl'}; --resume asks for the failed ones again"
        )


def warnings_about(config: EvaluateConfig) -> Iterator[str]:
    """What is allowed but should be known of the judge."""
    labelled: list[str] = []
    if config.trained_on is not None:
        models = RunDirectory.open(config.trained_on).manifest["models"]
        labelled = [told["spec"] for role, told in models.items() if not role.startswith("policy")]
    for judge in config.judges:
        if judge in labelled:
            yield (
                f"{judge} also made the labels the model was trained on: it finds its own taste, and its "
                "errors, again; evaluate with another judge"
            )
        elif family(judge) in map(family, labelled):
            yield f"{judge} is of the family of the judge that made the labels the model was trained on"
        for name, side in zip(("model", "baseline"), config.sides, strict=True):
            if as_file(side) is None and family(side) == family(judge):
                yield (
                    f"{judge} judges the {name} {side}, a model of its own family: judges favour their own "
                    "writing; a judge of another family is safer"
                )
    if config.judging == "pairwise" and config.judge and not config.both_orders:
        yield "one order only: the judge's liking for a position goes into the win rate"


def _results(
    config: EvaluateConfig,
    annotations: Sequence[Annotation],
    judge: str | None,
    console: Console,
    warnings: list[str],
) -> dict[str, Any]:
    """All that follows from the annotations and the files they are held against."""
    found = evaluation(
        annotations, judge, detect=config.detect, sequential=config.stop_when_clear, seed=config.seed
    )
    found |= {"human": None, "against": None, "warnings": [*warnings, *caveats(found)]}
    for warning in found["warnings"]:
        console.warn(warning)
    if config.labels is not None:
        found["human"] = corrected(annotations, read_labels(config.labels), config.labels)
    if config.against is not None:
        other = read_annotations(config.against)
        found["against"] = difference(annotations, config.against, other, config.seed)
    return found


def _log_loss(config: EvaluateConfig, console: Console) -> dict[str, Any] | None:
    if config.held_out is None:
        return None
    options = parse_options(config.engine_arg)
    with console.step("log-loss on held-out demonstrations"):
        model, baseline = (log_loss(side, config.held_out, options) for side in config.sides)
    return log_loss_result(config.held_out, model, baseline, config.seed)


def _manifest(
    config: EvaluateConfig, inputs: Inputs, annotations: Sequence[Annotation], roles: Roles
) -> dict[str, Any]:
    sides = zip(("model", "baseline"), config.sides, strict=True)
    models = {name: roles.served(side) for name, side in sides if as_file(side) is None}
    models |= served_judges(config, roles)
    return {
        "prefgen_version": __version__,
        "command": "evaluate",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "models": models,
        "inputs": inputs.hashes,
        "counts": {"prompts": len(annotations), "failures": failures(annotations)},
        "usage": roles.usage,
        "environment": environment(),
    }

"""`prefgen rlaif`: rounds of sample → judge → pair → train → evaluate, to the last or to an alarm.

Resuming is running again: what a round left whole is read, the rest is made. What the rounds come to is
worked out anew from their files each time, so that other rules give another answer without a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.judging import calling
from pipelines.publish import environment
from pipelines.rlaif.config import RUN_KEYS, LoopConfig
from pipelines.rlaif.decide import Decision, Rules, decide
from pipelines.rlaif.inputs import Inputs, look_over, models_of, warnings_about
from pipelines.rlaif.lineage import write_lineage
from pipelines.rlaif.measure import Measure, read_round
from pipelines.rlaif.page import write_page
from pipelines.rlaif.places import RoundPlace, weights_in
from pipelines.rlaif.policy import Policy
from pipelines.rlaif.round import Loop, begin, play
from pipelines.rlaif.usage import Spent
from pipelines.roles import Roles
from prefgen import __version__
from prefgen.errors import UsageError
from prefgen.files import write_json
from prefgen.ledger import Ledger, default_path
from prefgen.run import RunDirectory


async def rlaif(
    config: LoopConfig, console: Console, *, resume: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The whole loop; returns the manifest.

    Raises UsageError and its kin for bad input before anything is written, GateError where labels may not be
    trusted or people are waited for, BudgetError when the budget is used up.
    """
    inputs = look_over(config)
    for warning in warnings_about(config):
        console.warn(warning)
    if resume:
        check_finished(config)
    resolved = config.resolved() | {"command": "rlaif", "inputs": inputs.hashes}
    with RunDirectory.start(
        config.out, resolved, resume=resume, overwrite=overwrite, may_change=RUN_KEYS
    ) as run:
        (run.path / "manifest.json").unlink(missing_ok=True)
        with Ledger(config.generate.ledger or default_path()) as ledger:
            async with calling(config.generate, ledger, console, models_of(config)) as roles:
                roles.begin(run.id)
                return await _rounds(config, inputs, run, roles)


def check_finished(config: LoopConfig) -> None:
    """Raises UsageError where more rounds are finished than the config has."""
    done = sum(path.is_file() for path in config.out.glob("rounds/*/round.json"))
    if done > config.file.rounds:
        raise UsageError(
            f"{config.out} has {done} finished rounds, and {config.path} asks for {config.file.rounds}; a "
            "resumed loop may have more rounds, not fewer"
        )


async def _rounds(config: LoopConfig, inputs: Inputs, run: RunDirectory, roles: Roles) -> dict[str, Any]:
    console, judges = roles.console, {*config.generate.judges, *config.evaluate.judges}
    measure = Measure(config.evaluate, inputs.asked, run)
    loop = Loop(config, roles, Policy(roles, judges), measure, Spent(config.out / "usage.json", roles))
    records: list[dict[str, Any]] = []
    decision, stopped = Decision(0, ()), False
    await begin(loop)
    while len(records) < config.file.rounds and not stopped:
        number = len(records) + 1
        console.note(f"round {number} of {config.file.rounds}")
        record = await play(loop, number)
        decision = decide_on(config, number)
        records.append(record | {"alarms": [alarm.as_json() for alarm in decision.alarms]})
        for alarm in decision.alarms:
            console.warn(f"round {number}: {alarm.text}\n  remedy: {alarm.remedy}")
        stopped = bool(decision.alarms) and config.file.stop.on_alarm == "stop"
        keep_best(config, decision.best)
        write_json(run.path / "rounds.json", {"best": decision.best, "rounds": records})
    return _finish(config, inputs, run, loop, records, decision, stopped)


def decide_on(config: LoopConfig, number: int) -> Decision:
    """What the rounds up to `number` come to, from their files."""
    rounds = [read_round(RoundPlace(config.out, each)) for each in range(1, number + 1)]
    return decide(rounds, Rules(**config.file.stop.model_dump(exclude={"on_alarm"})), config.file.keep)


def keep_best(config: LoopConfig, number: int) -> None:
    """`best.json` and the link `best` name the model of the best round; for round 0 the start's."""
    out, model = config.out, best_model(config, number)
    write_json(out / "best.json", {"round": number, "model": os.path.relpath(model, out)})
    part = out / "best.part"
    part.unlink(missing_ok=True)
    part.symlink_to(os.path.relpath(model, out))
    part.replace(out / "best")


def best_model(config: LoopConfig, number: int) -> Path:
    if number:
        return weights_in(RoundPlace(config.out, number).model)
    if config.revise is not None:
        return weights_in(config.out / "start" / "sft")
    return Path(config.policy.partition("/")[2])


def _finish(
    config: LoopConfig,
    inputs: Inputs,
    run: RunDirectory,
    loop: Loop,
    records: Sequence[Mapping[str, Any]],
    decision: Decision,
    stopped: bool,
) -> dict[str, Any]:
    """Lineage, page, and the manifest last."""
    start = run.path / "start" / "evaluation.json"
    manifest: dict[str, Any] = {
        "prefgen_version": __version__,
        "command": "rlaif",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.resolved(),
        "seed": config.seed,
        "models": {
            "policy": config.policy,
            "judge": " + ".join(config.generate.judges),
            "held_out_judge": " + ".join(config.evaluate.judges),
        },
        "inputs": inputs.hashes,
        "start": json.loads(start.read_text(encoding="utf-8")) if start.exists() else None,
        "rounds": list(records),
        "best": json.loads((run.path / "best.json").read_text(encoding="utf-8")),
        "stopped": records[-1]["alarms"] if stopped else None,
        "usage": loop.spent.total,
        "environment": environment(),
    }
    write_lineage(config, list(records))
    write_page(run, manifest)
    run.write_json("manifest.json", manifest)
    return manifest

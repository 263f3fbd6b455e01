"""`prefgen constitution diff`: what another constitution would make of a run's pairs.

Principles that stayed as they were are not asked again: their judgments stand in the run. The rest goes
through the ledger, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from judges.constitution import Constitution, load_constitution
from pipelines.calibration.labelling import pairing_from
from pipelines.console import Console
from pipelines.constitution.changes import Changes
from pipelines.constitution.config import DiffConfig, RunsJudge
from pipelines.constitution.rejudging import Compared, Rejudging, Work
from pipelines.generate_config import RUN_OPTIONS, CallConfig
from pipelines.judging import check_judging, make_judge, roles_of
from pipelines.line import in_order
from pipelines.publish import judgment_row
from pipelines.signature import differences, signature
from pipelines.stored import stored
from prefgen.errors import GateError, InputError, UsageError
from prefgen.files import json_lines
from prefgen.judgment import JudgeFailure, JudgeResult
from prefgen.ledger import Ledger, default_path
from prefgen.run import RunDirectory
from prefgen.tables import JUDGMENTS, TableWriter

CHANGES = ("flipped", "disappeared", "appeared")


@dataclass(slots=True)
class Sums:
    """`rows`: pairs that are other than before."""

    before: int = 0
    after: int = 0
    asked: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, compared: Compared, fresh: Sequence[JudgeResult]) -> None:
        self.before += len(compared.work.pairs)
        self.after += len(compared.after)
        self.asked += len(fresh)
        self.failures.update(item.status for item in fresh if isinstance(item, JudgeFailure))
        self.rows += compared.rows()


async def diff(
    config: DiffConfig,
    console: Console,
    *,
    quote: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """The changes, and with a run its pairs that flip, disappear and appear; `quote`: how many questions that
    takes, and nothing is asked.

    Raises InputError where A is not the run's constitution or a file of its judge is another, BudgetError
    where a limit is reached, GateError where too many calls failed.
    """
    changes = Changes(load_constitution(config.a), load_constitution(config.b))
    found: dict[str, Any] = {"a": _named(changes.a), "b": _named(changes.b), "changes": changes.as_json()}
    if config.run is None:
        return found
    source = RunDirectory.open(config.run)
    job = rejudging(config, changes, source.manifest)
    questions = sum(job.questions(job.work(*told)) for told in stored(source))
    found |= {"run": str(config.run), "asked": job.asked, "questions": questions}
    if quote:
        return found
    if questions:
        console.note(
            f"{questions:,} questions for {' + '.join(job.judging.judge)}; those asked before are free"
        )
    resolved = config.model_dump(mode="json") | {"command": "constitution diff"}
    opened = (
        RunDirectory.start(config.out, resolved, resume=resume, overwrite=overwrite, may_change=RUN_OPTIONS)
        if config.out is not None
        else nullcontext()
    )
    with opened as out:
        sums, usage = await _compare(job, source, console, out)
        if out is not None and sums.failures:
            out.ended_owing()
        _check(sums, job.judging.max_failure_share)
        found |= _told(sums) | {"usage": usage}
        if out is not None:
            out.write_text("flips.jsonl", json_lines(sums.rows))
            out.write_json("manifest.json", {**found, "command": "constitution diff", "config": resolved})
    return found


def rejudging(config: DiffConfig, changes: Changes, manifest: Mapping[str, Any]) -> Rejudging:
    """The job on a run, all of whose options are checked before a call. Raises UsageError, InputError."""
    used = manifest["constitution"]
    if used is None:
        raise UsageError(f"{config.run} was judged by a reward model, which reads no constitution")
    if used["hash"] != changes.a.hash:
        raise InputError(
            config.a,
            "not the constitution that the run was judged by",
            seen=f"{changes.a.id}, hash {changes.a.hash}",
            expected=f"{used['id']}, hash {used['hash']}",
        )
    if manifest["config"]["combine"] == "cascade":
        raise UsageError(f"{config.run} is of a cascade, whose judges are asked about what others leave open")
    judging = judge_of(config, manifest)
    check_judging(judging)
    other = differences(manifest["judged_by"], signature(judging))
    if other:
        raise InputError(
            config.run or "", "its judge cannot be asked in the same way", seen="; ".join(other),
            fix="put the files of the run back, or name its --judge-template",
        )  # fmt: skip
    return Rejudging(changes, judging, pairing_from(manifest))


def judge_of(config: DiffConfig, manifest: Mapping[str, Any]) -> RunsJudge:
    """The judge as the run asked it; how it is called, as far as it was given now."""
    then = {name: value for name, value in manifest["config"].items() if name in RunsJudge.model_fields}
    then = {name: value for name, value in then.items() if name not in ("max_requests", "max_cost", "ledger")}
    calls = CallConfig.model_fields.keys() - {"seed"}
    now = {name: getattr(config, name) for name in config.model_fields_set & calls}
    template = {"judge_template": config.judge_template} if config.judge_template is not None else {}
    return RunsJudge.model_validate({**then, **now, **template, "constitution": config.a})


async def _compare(
    job: Rejudging, source: RunDirectory, console: Console, out: RunDirectory | None
) -> tuple[Sums, dict[str, Any] | None]:
    """Without a question to ask no model is started."""
    works = (job.work(*told) for told in stored(source))
    if job.asked == "nothing":
        sums = Sums()
        for work in works:
            sums.add(job.compare(work, ()), ())
        return sums, None
    with TemporaryDirectory() as folder, Ledger(job.judging.ledger or default_path()) as ledger:
        asked = job.judging.model_copy(update={"constitution": _asked_about(job, Path(folder))})
        async with roles_of(asked, ledger, console) as roles:
            if out is not None:
                roles.begin(out.id)
            judge = await make_judge(asked, roles, out.attempt if out is not None else 0)

            async def rejudge(work: Work) -> tuple[Work, list[JudgeResult]]:
                return work, await job.judge(judge, work)

            total = source.manifest["counts"]["prompts"]
            with console.progress("prompts", total, lambda: roles.state) as advance:
                told = in_order(map(rejudge, works), asked.window)
                sums = await _add_all(job, told, out, advance)
            return sums, roles.usage


def _asked_about(job: Rejudging, folder: Path) -> str:
    """A file with the principles that are asked about: the new ones, or all where they are one question."""
    b = job.changes.b
    asked = b if job.asked == "pairs" else Constitution(id=b.id, principles=tuple(job.changes.new))
    path = folder / "constitution.yaml"
    path.write_text(yaml.safe_dump(asked.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
    return str(path)


async def _add_all(
    job: Rejudging,
    told: AsyncGenerator[tuple[Work, list[JudgeResult]], None],
    out: RunDirectory | None,
    advance: Callable[[], None],
) -> Sums:
    sums = Sums()
    table = None if out is None else TableWriter(out.path / "judgments.parquet", JUDGMENTS)
    try:
        async with aclosing(told):
            async for work, fresh in told:
                sums.add(job.compare(work, fresh), fresh)
                if table is not None:
                    for result in fresh:
                        table.append(judgment_row(result))
                advance()
    except BaseException:
        if table is not None:
            table.abandon()
        raise
    if table is not None:
        table.publish()
    return sums


def _check(sums: Sums, most: float) -> None:
    failed = sum(sums.failures.values())
    if failed > most * sums.asked:
        causes = ", ".join(f"{status}: {count}" for status, count in sums.failures.most_common())
        raise GateError(
            f"{failed} of {sums.asked} judge calls failed ({causes}), more than {most:.1%}\n"
            "  fix: with --out DIR, --resume asks for them again; or a higher --max-failure-share"
        )


def _told(sums: Sums) -> dict[str, Any]:
    kinds = Counter(row["change"] for row in sums.rows)
    return {
        "pairs_before": sums.before,
        "pairs_after": sums.after,
        "asked_now": sums.asked,
        "failures": dict(sums.failures),
        "counts": {name: kinds[name] for name in CHANGES},
        "pairs": sums.rows,
    }


def _named(constitution: Constitution) -> dict[str, str]:
    return {"id": constitution.id, "hash": constitution.hash}

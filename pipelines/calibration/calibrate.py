"""May this judge be trusted? Its verdicts against people's labels, and what follows for generated labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judges.items import FEWEST_PROMPTS, Item, collect
from judges.planner import next_to_label
from pipelines.calibration.config import CalibrateConfig
from pipelines.calibration.examine import examine
from pipelines.calibration.page import write_page
from pipelines.calibration.settings import Settings
from pipelines.calibration.summary import calibration_summary
from pipelines.console import Console
from pipelines.judge import judge_pairs, write_verdicts
from pipelines.judging import check_judging, make_judge, roles_of
from pipelines.publish import sha256_of
from pipelines.signature import signature
from prefgen.errors import GateError, InputError, UsageError
from prefgen.files import json_lines, read_json, write_json, write_whole
from prefgen.labels import LabelledPair, Pair, read_labels, read_pairs
from prefgen.ledger import Ledger, default_path
from prefgen.messages import as_dicts
from prefgen.records import check_unwritten
from prefgen.verdict_file import RecordedVerdict, read_verdicts

CALIBRATION, VERDICTS, PAGE, NEXT = "calibration.json", "verdicts.jsonl", "report.html", "next.jsonl"


@dataclass(frozen=True, slots=True)
class _Inputs:
    labelled: list[LabelledPair]
    unlabelled: list[Pair]

    @property
    def pairs(self) -> list[Pair]:
        return [told.pair for told in self.labelled] + self.unlabelled


async def calibrate(config: CalibrateConfig, console: Console, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes calibration.json and report.html (and next.jsonl) and returns the calibration.

    Asking again costs nothing: every answer is in the ledger. Raises UsageError and its kin for bad input,
    GateError when no item has a usable verdict or too many calls failed.
    """
    _check_outputs(config, overwrite)
    inputs = _read(config)
    if config.unlabelled is not None and not inputs.unlabelled:
        raise InputError(
            config.unlabelled, f"every pair stands in {config.labels} already: none is left to label"
        )
    verdicts = await _verdicts(config, inputs, console)
    by = signature(config) if config.verdicts is None else None
    items = collect(inputs.labelled, verdicts, config.combine)
    _check_met(config, items, verdicts)
    for warning in _warnings(items, verdicts, inputs):
        console.warn(warning)
    names = _names(verdicts)
    settings = Settings(
        config.target,
        config.delta,
        config.map,
        config.failures_as_tie,
        config.epsilon,
        config.width,
        config.seed,
        config.combine,
        names,
    )
    judge: dict[str, Any] = by or {"names": names}
    found = examine(items, settings) | {"judge": judge, "read": _files(config)}
    if inputs.unlabelled:
        found["planner"]["next"] = _write_next(config, inputs.unlabelled, verdicts)
    write_page(config.out / PAGE, found, items)
    write_json(config.out / CALIBRATION, found)
    return found


def _files(config: CalibrateConfig) -> dict[str, Any]:
    """What the page is written anew from."""
    verdicts = config.verdicts or config.out / VERDICTS
    return {
        "files": sha256_of([config.labels, verdicts]),
        "reference": config.reference,
        "combine": config.combine,
    }


def report_calibration(folder: Path) -> tuple[dict[str, Any], str]:
    """Writes the page of a calibration anew; its calibration.json and the same in a few lines. Where the
    labels are no longer what they were, the page goes without the pairs to read."""
    found = read_json(folder / CALIBRATION)
    write_page(folder / PAGE, found, _items_again(folder, found.get("read")))
    return found, calibration_summary(folder, found)


def _items_again(folder: Path, read: Mapping[str, Any] | None) -> list[Item] | None:
    if read is None:
        return None
    paths = [Path(name) for name in read["files"]]
    labels, verdicts = paths[0], paths[-1]  # One file where the verdicts stand in the labels' rows.
    if not verdicts.is_file():  # The folder may have been moved.
        verdicts = folder / verdicts.name
    if not (labels.is_file() and verdicts.is_file()):
        return None
    if list(sha256_of([labels, verdicts]).values()) != list(read["files"].values()):
        return None
    return collect(read_labels(labels, read["reference"]), read_verdicts(verdicts), read["combine"])


def _check_outputs(config: CalibrateConfig, overwrite: bool) -> None:
    """Nothing the user has is written over unless told to, and never what the job reads."""
    if config.out.exists() and not config.out.is_dir():
        raise UsageError(f"{config.out} is a file; --out names a directory")
    read = {
        path.resolve() for path in (config.labels, config.verdicts, config.unlabelled) if path is not None
    }
    written = [CALIBRATION, PAGE]
    written += [VERDICTS] if config.verdicts is None else []
    written += [NEXT] if config.unlabelled is not None else []
    for name in written:
        if (config.out / name).resolve() in read:
            raise UsageError(f"{config.out / name} is read and would be written over; name another --out")
        check_unwritten(config.out / name, overwrite)


def _read(config: CalibrateConfig) -> _Inputs:
    labelled = read_labels(config.labels, config.reference)
    more = config.unlabelled
    unlabelled = [] if more is None else list(read_pairs(more, config.reference))
    known = {told.pair.id: told.pair for told in labelled}
    for pair in unlabelled:
        if pair.id in known and pair.content != known[pair.id].content:
            raise InputError(
                more or "",
                f"the id {pair.id!r} stands for another pair in {config.labels}",
                fix="give the pairs ids that the labels file does not use",
            )
    return _Inputs(labelled, [pair for pair in unlabelled if pair.id not in known])


async def _verdicts(config: CalibrateConfig, inputs: _Inputs, console: Console) -> list[RecordedVerdict]:
    """Read, or asked for and then read from the file that the answers were written to."""
    if config.verdicts is not None:
        return read_verdicts(config.verdicts)
    check_judging(config)
    with Ledger(config.ledger or default_path()) as ledger:
        async with roles_of(config, ledger, console) as roles:
            with console.step(f"judging {len(inputs.pairs)} pairs"):
                judge = await make_judge(config, roles)
                judged = await judge_pairs(judge, inputs.pairs)
                for number in range(2, config.repeats + 1):
                    anew = await make_judge(config, roles.again(f"calibration {number}"))
                    judged += await judge_pairs(anew, [told.pair for told in inputs.labelled])
    write_verdicts(judge, judged, config.out / VERDICTS)
    failed = sum(item.margin is None for item in judged)
    if failed > config.max_failure_share * len(judged):
        raise GateError(
            f"the judge gave no usable verdict on {failed} of {len(judged)} pairs, more than "
            f"{config.max_failure_share:.0%}\n  fix: see {config.out / VERDICTS}; another judge, more "
            "--judge-max-tokens, or a larger --max-failure-share"
        )
    return read_verdicts(config.out / VERDICTS)


def _check_met(config: CalibrateConfig, items: Sequence[Item], verdicts: Sequence[RecordedVerdict]) -> None:
    if not any(item.verdicts for item in items):
        raise InputError(
            config.verdicts or config.out / VERDICTS,
            f"no verdict is on a pair of {config.labels}",
            seen=f"ids such as {verdicts[0].id!r}",
            expected=f"ids such as {items[0].pair.id!r}",
        )
    if all(item.margin is None for item in items):
        raise GateError("the judge gave no usable verdict on any labelled pair")
    if config.combine != "mean" and len(_names(verdicts)) < 2:
        raise InputError(
            config.verdicts or config.out / VERDICTS,
            f"--combine {config.combine} needs verdicts of several judges",
            seen=", ".join(_names(verdicts)) or "no column judge",
        )


def _warnings(items: Sequence[Item], verdicts: Sequence[RecordedVerdict], inputs: _Inputs) -> list[str]:
    """What was left out or looks wrong, each with its count."""
    known = {pair.id for pair in inputs.pairs}
    twice = Counter((item.prompt, item.pair.a.text, item.pair.b.text) for item in items)
    counted = {
        "labelled pairs have no verdict at all": sum(not item.verdicts for item in items),
        "verdicts are on ids without a label": sum(verdict.id not in known for verdict in verdicts),
        "verdicts contradict their own p_a, which counts": sum(v.contradicts_itself for v in verdicts),
        "labelled pairs stand twice under other ids": sum(count - 1 for count in twice.values()),
    }
    prompts = len({item.prompt for item in items})
    few = [
        f"{len(items)} pairs of only {prompts} prompts: what is found holds for these prompts, not for "
        "others, and no precision is promised"
    ]
    told = [f"{count} {what}" for what, count in counted.items() if count]
    return told + (few if prompts < FEWEST_PROMPTS else [])


def _names(verdicts: Sequence[RecordedVerdict]) -> list[str]:
    """In the order of the file, which is that of a cascade."""
    return list(dict.fromkeys(verdict.judge for verdict in verdicts if verdict.judge is not None))


def _write_next(
    config: CalibrateConfig, unlabelled: Sequence[Pair], verdicts: Sequence[RecordedVerdict]
) -> dict[str, Any]:
    """Pairs to label next, in the form of a pairs file."""
    items = collect([LabelledPair(pair, ("tie",), (None,)) for pair in unlabelled], verdicts)
    usable = [(item, abs(item.margin)) for item in items if item.margin is not None]
    order = next_to_label(
        [margin for _, margin in usable], [item.prompt for item, _ in usable], config.next, config.seed
    )
    rows = [
        {
            "id": pair.id,
            "prompt": as_dicts(pair.prompt.messages),
            "response_a": pair.a.text,
            "response_b": pair.b.text,
        }
        for pair in (usable[index][0].pair for index in order)
    ]
    write_whole(config.out / NEXT, json_lines(rows))
    return {"file": NEXT, "n": len(rows), "of": len(unlabelled), "without_verdict": len(items) - len(usable)}

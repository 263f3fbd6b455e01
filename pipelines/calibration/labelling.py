"""Labelling by a calibration: confidences that people agree with, and a threshold that earns a precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from judges.calibration import CalibrationMap
from judges.selective import Selection
from pipelines.calibration.file import Calibration, Stage, read_calibration
from pipelines.console import Console
from pipelines.generate_config import PairingConfig
from pipelines.outcome import Later, Pairing
from pipelines.signature import differences
from prefgen.errors import InputError, UsageError
from prefgen.messages import Json
from prefgen.pairing import PairingRule
from prefgen.verdicts import Weighing


def pairing_of(
    config: PairingConfig, judged_by: dict[str, Json], weighing: Weighing, console: Console
) -> tuple[Pairing, dict[str, Any] | None]:
    """The pairing of a job, and what its manifest says of the calibration (None without one).

    `judged_by`: the signature of the judge that gave, or will give, the judgments; `weighing`: its own, in
    which weights fitted to labels replace those of the constitution. Raises InputError where the calibration
    is of another judge, GateError where no threshold earns the target.
    """
    if config.calibration is None:
        return Pairing(config.rule, config.kto_labels, weighing), None
    calibration = trusted(config, judged_by, console)
    stages = _stages(config, calibration)
    told = [
        {
            "judge": stage.judge,
            "map": stage.map.model_dump(mode="json"),
            "selective": None if stage.selection is None else stage.selection.as_json(),
        }
        for stage in stages
    ]
    note = {
        "file": str(config.calibration),
        "n_labels": calibration.n,
        **{
            name: measured and measured.model_dump(mode="json")
            for name, measured in (("agreement", calibration.agreement), ("kappa", calibration.kappa))
        },
        "target": config.target_precision,
        "stages": told,
    }
    return _pairing(config, stages, _weighed(calibration, stages, weighing)), note


def trusted(config: PairingConfig, judged_by: dict[str, Json], console: Console) -> Calibration:
    """The calibration of a config, which is of the judge of `judged_by`. Raises UsageError, InputError."""
    assert config.calibration is not None
    calibration = read_calibration(config.calibration)
    _check_same_judge(config, calibration, judged_by, console)
    if judged_by.get("judging") == "listwise":
        raise UsageError(
            "--calibration does not go with --judging listwise: it is made of two responses at a time, and "
            "what a judge says of two in a longer list is another question"
        )
    return calibration


def pairing_by(config: PairingConfig, calibration: Calibration, weighing: Weighing) -> Pairing:
    """The pairing of a config under a calibration that is trusted. Raises as `pairing_of`."""
    stages = _stages(config, calibration)
    return _pairing(config, stages, _weighed(calibration, stages, weighing))


def _stages(config: PairingConfig, calibration: Calibration) -> list[Stage]:
    try:
        return calibration.stages(config.target_precision)
    except ValueError as error:
        raise InputError(config.calibration or "", str(error)) from error


def pairing_from(manifest: Mapping[str, Any]) -> Pairing:
    """The pairing that a finished run's pairs were made by."""
    config = PairingConfig(**{name: manifest["config"][name] for name in PairingConfig.model_fields})
    weighing, calibrated = Weighing(**manifest["weighing"]), manifest["calibration"]
    if calibrated is None:
        return Pairing(config.rule, config.kto_labels, weighing)
    stages = [
        Stage(
            told["judge"],
            CalibrationMap.model_validate(told["map"]),
            told["selective"] and Selection(**told["selective"]),
        )
        for told in calibrated["stages"]
    ]
    return _pairing(config, stages, weighing)


def _weighed(calibration: Calibration, stages: Sequence[Stage], weighing: Weighing) -> Weighing:
    principles = {name: told.weight for name, told in (calibration.principles or {}).items()}
    judges = {name: told.weight for name, told in (calibration.jurors or {}).items()}
    if weighing.combine == "cascade":
        judges = {stages[0].judge: 1.0}
    return Weighing(principles or weighing.principles, weighing.combine, judges or weighing.judges)


def _pairing(config: PairingConfig, stages: Sequence[Stage], weighing: Weighing) -> Pairing:
    rules = [_rule(config, stage) for stage in stages]
    later = [Later(stage.judge, rule) for stage, rule in zip(stages[1:], rules[1:], strict=True)]
    return Pairing(rules[0], config.kto_labels, weighing, later)


def _rule(config: PairingConfig, stage: Stage) -> PairingRule:
    """Without a target the user's --min-confidence holds; with one, what earns it, or nothing."""
    rule = replace(config.rule, confidence=stage.map)
    if config.target_precision is None:
        return rule
    return replace(rule, min_confidence=stage.selection.threshold if stage.selection else math.inf)


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _check_same_judge(
    config: PairingConfig, calibration: Calibration, judged_by: dict[str, Json], console: Console
) -> None:
    """A calibration holds for the judge it was made with, asked in the same way."""
    path, names = config.calibration or "", calibration.judge.names
    if names is not None:
        asked = [judged_by.get("reward_model"), *_listed(judged_by.get("judge"))]
        if list(names) != [name for name in asked if name is not None]:
            raise InputError(
                path,
                "a calibration of recorded verdicts of another judge",
                seen=", ".join(names) or "verdicts without a judge",
                expected="the judge of this run, by its spec, in the column judge of the verdicts",
            )
        if not calibration.stated:
            raise InputError(
                path,
                "a calibration of bare verdicts, which says nothing of log-odds",
                expected="verdicts with p_a, as prefgen judge writes them",
            )
        console.warn(f"{path} is of recorded verdicts: it holds if the judge was asked in the same way then")
        return
    other = differences(calibration.asked_with or {}, judged_by)
    if other:
        raise InputError(
            path,
            "a calibration of another judge",
            seen="; ".join(other),
            expected="the judge and judging options of this run",
            fix="run prefgen calibrate with these options, or give the calibrated ones here",
        )

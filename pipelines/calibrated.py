"""Labelling by a calibration: confidences that people agree with, and a threshold that earns a precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from judges.calibration import CalibrationMap
from pipelines.calibration_file import Calibration, read_calibration
from pipelines.console import Console
from pipelines.generate_config import PairingConfig
from pipelines.outcome import Pairing
from pipelines.signature import differences
from prefgen.errors import InputError
from prefgen.messages import Json
from prefgen.pairing import PairingRule


def pairing_of(
    config: PairingConfig, judged_by: dict[str, Json], weights: Mapping[str, float], console: Console
) -> tuple[Pairing, dict[str, Any] | None]:
    """The pairing of a job, and what its manifest says of the calibration (None without one).

    `judged_by`: the signature of the judge that gave, or will give, the judgments; `weights`: its own shares of
    the principles, which the calibration's replace. Raises InputError where the calibration is of another
    judge, GateError where no threshold earns the target.
    """
    if config.calibration is None:
        return Pairing(config.rule, config.kto_labels, weights), None
    calibration = read_calibration(config.calibration)
    if calibration.map is None:
        raise InputError(config.calibration, "holds no map: no label in it decides between a and b")
    _check_same_judge(config, calibration, judged_by, console)
    told: dict[str, Any] = {
        "file": str(config.calibration),
        "n_labels": calibration.n,
        "map": calibration.map.model_dump(mode="json"),
        "selective": None,
    }
    rule = replace(config.rule, confidence=calibration.map)
    if config.target_precision is not None:
        selection = calibration.select(config.target_precision)
        told["selective"] = selection.as_json()
        rule = replace(rule, min_confidence=selection.threshold)
    return Pairing(rule, config.kto_labels, calibration.weights or weights), told


def rule_of(manifest: Mapping[str, Any]) -> PairingRule:
    """The rule that a finished run's pairs were made by."""
    config = PairingConfig(**{name: manifest["config"][name] for name in PairingConfig.model_fields})
    calibrated = manifest["calibration"]
    if calibrated is None:
        return config.rule
    rule = replace(config.rule, confidence=CalibrationMap.model_validate(calibrated["map"]))
    selective = calibrated["selective"]
    return rule if selective is None else replace(rule, min_confidence=selective["threshold"])


def _check_same_judge(
    config: PairingConfig, calibration: Calibration, judged_by: dict[str, Json], console: Console
) -> None:
    """A calibration holds for the judge it was made with, asked in the same way."""
    if "names" in calibration.judge:
        names = ", ".join(calibration.judge["names"]) or "an unnamed judge"
        if judged_by.get("judge") not in calibration.judge["names"]:
            console.warn(
                f"{config.calibration} was made from recorded verdicts of {names}; it holds for this run only "
                "if these came from the same judge, asked in the same way"
            )
        return
    other = differences(calibration.judge, judged_by)
    if other:
        raise InputError(
            config.calibration or "",
            "a calibration of another judge",
            seen="; ".join(other),
            expected="the judge and judging options of this run",
            fix="run prefgen calibrate with these options, or give the calibrated ones here",
        )

"""`training.json`: what a stage did, written when everything else is on disk."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

from pydantic import BaseModel, JsonValue

from prefgen.errors import InputError
from trainers.alarms import Alarm, AlarmName

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "prefgen")


class ReloadCheck(BaseModel):
    """The saved model, loaded again, against the one in memory: largest difference of a logit or reward."""

    rows: int
    max_difference: float
    merged_max_difference: float | None = None


class TrainingReport(BaseModel):
    """`counts`: rows by split and fate (`train_used`, `train_dropped_prompt_too_long`, `eval_used` …).

    `settings`: what the options came to on this machine (learning rate, tokens, precision, class weights).
    `first_loss`: training loss before the first step changed a weight. `first_eval`: before training;
    `last_eval`: of the model that was kept. `frozen_sha256`: the weights that had to stay as they were (the
    reference model, or what lies under an adapter), checked before and after; None where nothing is frozen,
    or where `frozen_unchecked` says why it was not checked. `kept_step`: the step of the model that was kept;
    `stopped_by_alarm`: the alarm that ended the training.
    """

    stage: str
    config: dict[str, JsonValue]
    inputs: dict[str, str | None]
    settings: dict[str, JsonValue]
    counts: dict[str, int]
    warnings: list[str]
    steps: int
    stopped_early: bool
    kept_step: int | None = None
    alarms: list[Alarm] = []
    stopped_by_alarm: AlarmName | None = None
    first_loss: float | None
    first_eval: dict[str, float] | None
    last_eval: dict[str, float] | None
    frozen_sha256: str | None
    frozen_unchecked: str | None = None
    reload: ReloadCheck
    seconds: float
    versions: dict[str, str]


def read_report(out: Path) -> TrainingReport:
    """Raises InputError where a training run is not complete."""
    path = out / "training.json"
    if not path.is_file():
        raise InputError(path, "no such file", expected="the folder of a complete training run")
    return TrainingReport.model_validate_json(path.read_text("utf-8"))


def versions() -> dict[str, str]:
    """Installed versions of what made the model."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

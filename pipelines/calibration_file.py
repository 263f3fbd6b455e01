"""A calibration.json as the jobs read it that label by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from judges.calibration import CalibrationMap
from judges.selective import Selection, select
from prefgen.errors import GateError, InputError


class _Probability(BaseModel):
    model_config = ConfigDict(frozen=True)

    map: CalibrationMap


class _Answers(BaseModel):
    model_config = ConfigDict(frozen=True)

    delta: float
    confidence: tuple[float, ...]
    correct: tuple[bool, ...]


class _Principle(BaseModel):
    model_config = ConfigDict(frozen=True)

    weight: float


class Calibration(BaseModel):
    """What a job needs of a calibration.json."""

    model_config = ConfigDict(frozen=True)

    n: int
    judge: dict[str, Any]
    probability: _Probability | None
    selective_items: _Answers | None
    principles: dict[str, _Principle] | None

    @property
    def map(self) -> CalibrationMap | None:
        return None if self.probability is None else self.probability.map

    @property
    def weights(self) -> dict[str, float]:
        """Fitted share of each principle; empty where there is none."""
        return {name: told.weight for name, told in (self.principles or {}).items()}

    def select(self, target: float) -> Selection:
        """The threshold that earns a target. Raises GateError where none does."""
        answers = self.selective_items
        found = answers and select(answers.confidence, answers.correct, target=target, delta=answers.delta)
        if not found:
            raise GateError(
                f"not calibrated: with {self.n} labels no threshold on this judge's confidence earns a label "
                f"precision of {target:.0%}, so every pair would be dropped\n  fix: more human labels (see "
                "the planner in calibration.json), a lower --target-precision, or a better judge"
            )
        return found


def read_calibration(path: Path) -> Calibration:
    """Raises InputError."""
    try:
        return Calibration.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else "not a calibration"
        raise InputError(
            path, what, seen=_fault(error), expected="the calibration.json that prefgen calibrate wrote"
        ) from error


def _fault(error: Exception) -> str | None:
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return None if isinstance(error, FileNotFoundError) else str(error)

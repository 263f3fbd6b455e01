"""A calibration.json as the jobs read it that label by it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from judges.calibration import CalibrationMap
from judges.cascade import select_cascade
from judges.planner import labels_to_earn
from judges.selective import FEWEST, Selection, select
from prefgen.errors import GateError, InputError
from prefgen.messages import Json


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Mapped(_Read):
    map: CalibrationMap


class _Tested(_Read):
    confidence: tuple[float, ...]
    correct: tuple[bool, ...]

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len(self.confidence) != len(self.correct):
            raise ValueError(f"{len(self.confidence)} confidences for {len(self.correct)} labels")
        return self


class _Answers(_Tested):
    delta: float = Field(gt=0, lt=1)


class _Measured(_Read):
    value: float
    ci: tuple[float, float]


class _Weighed(_Read):
    weight: float = Field(ge=0)


class _Stage(_Tested):
    judge: str
    map: CalibrationMap


class _Cascade(_Read):
    delta: float = Field(gt=0, lt=1)
    stages: tuple[_Stage, ...] = Field(min_length=1)

    @field_validator("stages")
    @classmethod
    def _same_labels(cls, stages: tuple[_Stage, ...]) -> tuple[_Stage, ...]:
        if len({len(stage.confidence) for stage in stages}) > 1:
            raise ValueError("the stages were tested on different labels")
        return stages


class _Judge(BaseModel):
    """The options it was asked with, or the names in a file of recorded verdicts."""

    model_config = ConfigDict(frozen=True, extra="allow")

    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A judge, or all of them as one, with its map. `selection`: what it keeps; None: nothing, or no target
    was asked for."""

    judge: str
    map: CalibrationMap
    selection: Selection | None


class Calibration(_Read):
    """What a job needs of a calibration.json."""

    n: int = Field(ge=1)
    judge: _Judge
    probability: _Mapped | None
    selective_items: _Answers | None
    stated: bool = True
    principles: dict[str, _Weighed] | None
    jurors: dict[str, _Weighed] | None = None
    cascade: _Cascade | None = None
    agreement: _Measured | None = None
    kappa: _Measured | None = None

    @field_validator("principles", "jurors")
    @classmethod
    def _count_at_all(cls, told: dict[str, _Weighed] | None) -> dict[str, _Weighed] | None:
        if told is not None and not any(item.weight for item in told.values()):
            raise ValueError("all weights are 0")
        return told

    @property
    def asked_with(self) -> dict[str, Json] | None:
        """The signature of the judge; None where its verdicts were recorded."""
        return None if self.judge.names is not None else dict(self.judge.model_extra or {})

    @property
    def cascade_judges(self) -> list[str]:
        return [stage.judge for stage in self.cascade.stages] if self.cascade else []

    def stages(self, target: float | None) -> list[Stage]:
        """Who decides, in order: one stage, or those of a cascade. Raises GateError where none of them earns
        the target, ValueError where the labels decided nothing."""
        if self.cascade is not None:
            found = self._cascade(self.cascade, target)
        elif self.probability is not None and self.selective_items is not None:
            answers = self.selective_items
            selection = target and select(
                answers.confidence, answers.correct, target=target, delta=answers.delta
            )
            found = [Stage("", self.probability.map, selection or None)]
        else:
            raise ValueError("holds no map: no label in it decides between a and b")
        if target is not None and not any(stage.selection for stage in found):
            raise GateError(
                f"not calibrated: with {self.n} labels no threshold on this judge's confidence earns a label "
                f"precision of {100 * target:g}%, so every pair would be dropped\n  fix: "
                f"{self._more_labels(target)}a lower --target-precision, or a better judge"
            )
        return found

    def _more_labels(self, target: float) -> str:
        tested = self.selective_items
        if tested is None:
            return "more human labels, "
        n = len(tested.correct)
        needed = labels_to_earn(tested.confidence, tested.correct, target, tested.delta)
        if needed is None and n >= FEWEST:
            return ""
        many = f"about {needed - n} more" if needed is not None and needed > n else "more"
        return f"{many} human labels of other prompts ({n} were tested, one of each prompt), "

    def _cascade(self, cascade: _Cascade, target: float | None) -> list[Stage]:
        if target is None:
            raise ValueError("is of a cascade: add --target-precision")
        reached = select_cascade(
            np.array([stage.confidence for stage in cascade.stages]).T,
            np.array([stage.correct for stage in cascade.stages]).T,
            target=target,
            delta=cascade.delta,
        )
        return [
            Stage(stage.judge, stage.map, told.selection)
            for stage, told in zip(cascade.stages, reached, strict=True)
        ]


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
        where = ".".join(map(str, fault["loc"])) or "the file"
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
    return None if isinstance(error, FileNotFoundError) else str(error)

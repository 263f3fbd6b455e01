"""Every option of `prefgen calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from judges.calibration import MapKind
from pipelines.generate_config import JudgingConfig


class CalibrateConfig(JudgingConfig):
    labels: Path
    """Labels file: id, prompt, response_a, response_b, label (a, b, tie), optional annotator."""
    out: Path
    """Directory for calibration.json and report.html."""
    verdicts: Path | None = None
    """Recorded verdicts to calibrate instead of asking a judge: id, verdict, optional p_a, order, judge."""
    target: float = Field(default=0.9, gt=0.5, lt=1)
    """Share of kept labels that a human should agree with."""
    delta: float = Field(default=0.1, gt=0, lt=1)
    """Risk that the target is missed all the same."""
    map: Literal[MapKind, "auto"] = "auto"
    """From log-odds to probability: temperature, unless another is clearly better; or always this one."""
    failures_as_tie: bool = False
    """Count items without a usable verdict as ties instead of leaving them out."""
    repeats: int = Field(default=1, ge=1)
    """Ask every question so often, each time anew: from 2 on, how steady the judge is."""
    epsilon: float = Field(default=0.1, ge=0, lt=1)
    """Alternative-annotator test: what a judge's lower cost excuses; .2 against experts, .15 skilled
    annotators, .1 a crowd."""
    width: float = Field(default=0.1, gt=0, lt=1)
    """Width of the interval of agreement to plan labels for."""
    unlabelled: Path | None = None
    """Pairs file from which to draw the pairs to label next; written to next.jsonl."""
    next: int = Field(default=100, ge=1)
    """How many pairs to draw."""

    @property
    def knows_labels(self) -> bool:
        return True

    @property
    def needs_judge(self) -> bool:
        return False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.judges) == (self.verdicts is not None):
            raise ValueError("give exactly one of --judge MODEL, --reward-model MODEL and --verdicts FILE")
        if self.judging == "listwise":
            raise ValueError(
                "--judging listwise cannot be calibrated: labels are of two responses, and what a judge says "
                "of two in a longer list is another question"
            )
        return self

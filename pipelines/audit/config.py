"""Every option of `prefgen audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipelines.generate_config import JudgingConfig


class AuditConfig(JudgingConfig):
    run: Path
    """A finished run."""
    out: Path | None = None
    """Directory for the audit. [default: audit in the run]."""
    eval_file: tuple[Path, ...] = ()
    """File of evaluation questions to look for in the run's prompts."""
    eval_column: str | None = None
    """Column of those files with the question. [default: prompt, question or text]."""
    eval_responses: bool = False
    """Look for them in the responses too."""
    flag_share: float | None = Field(default=None, gt=0, lt=1)
    """Share of the pairs to list as suspicious. [default: those past confident learning's threshold]."""
    probes: int = Field(default=50, ge=1)
    """Responses whose form is changed to see what the judge makes of it; goes with --judge."""

    @property
    def needs_judge(self) -> bool:
        return False

    @model_validator(mode="after")
    def _at_most_one_judge(self) -> Self:
        if self.reference is not None:
            raise ValueError("--reference goes with other commands: a variant has no reference of its own")
        return self

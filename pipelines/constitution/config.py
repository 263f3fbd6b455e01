"""Every option of `prefgen constitution diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import model_validator

from pipelines.generate_config import CallConfig, JudgingConfig


class DiffConfig(CallConfig):
    a: str
    """Constitution: a YAML file or a shipped name; with --run the one that the run was judged by."""
    b: str
    """The other one."""
    run: Path | None = None
    """A finished run, whose pairs are made anew by B: what is new in it is asked of the run's judge."""
    out: Path | None = None
    """Directory for flips.jsonl and the new judgments."""
    judge_template: Path | None = None
    """The run's judge template, where it is no longer in its place."""

    @model_validator(mode="after")
    def _of_a_run(self) -> Self:
        if self.run is None and self.out is not None:
            raise ValueError("--out goes with --run: without a run there is nothing to write")
        if self.run is not None and self.out is not None and self.out.resolve() == self.run.resolve():
            raise ValueError("--out is the run itself; name another directory")
        return self


class RunsJudge(JudgingConfig):
    """The judge that a run was judged by."""

    @property
    def knows_labels(self) -> bool:
        """Weights and thresholds are those of the run."""
        return True

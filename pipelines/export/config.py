"""Every option of `prefgen export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.export.target import Dataset
from prefgen.errors import UsageError

TrainerName = Literal["trl", "llamafactory", "axolotl", "openrlhf", "nemo-rl", "verl"]
Split = Literal["all", "train", "test"]


class ExportConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    run: Path
    """A finished run directory."""
    trainer: TrainerName
    """Who is to train on it: trl, llamafactory, axolotl, openrlhf, nemo-rl or verl."""
    dataset: Dataset | None = None
    """Which rows to write. [default: dpo; for verl, which takes nothing else, prompts]."""
    out: Path | None = None
    """Directory to write. [default: RUN/exports/TRAINER/DATASET]."""
    split: Split = "all"
    """Write only the rows of one split."""
    margin: bool = False
    """Give the pairs of reward their margin (log-odds), which TRL's trainer then demands as a lead."""
    reference: str | None = None
    """Column of the prompt file with a reference answer, for prompts; unset, that of the run's own option."""
    max_rejected: float = Field(default=0.05, ge=0, le=1)
    """Largest share of rows the trainer may be unable to take; above it nothing is written but their list."""
    push: str | None = None
    """Upload the result to this dataset of the Hugging Face Hub, OWNER/NAME; private, and only when asked."""
    public: bool = False
    """With --push: everybody may read it."""
    yes: bool = False
    """With --push: do not ask; for scripts."""

    @model_validator(mode="before")
    @classmethod
    def _for(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`for`, as the option is called, cannot name a field."""
        values = dict(values)
        if "for" in values:
            values.setdefault("trainer", values.pop("for"))
        if "trainer" not in values:
            raise UsageError(
                "missing --for: who is to train on it (trl, llamafactory, axolotl, openrlhf, nemo-rl, verl)"
            )
        return values

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.push is None and (self.public or self.yes):
            raise UsageError("--public and --yes go with --push OWNER/NAME")
        if self.out is not None and self.out.resolve() == self.run.resolve():
            raise UsageError(f"--out {self.out} is the run itself; name another directory")
        return self

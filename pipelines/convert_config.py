"""Every option of `prefgen convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prefgen.errors import UsageError
from prefgen.opinion import Zero
from prefgen.ratings import PairBy, RateBy
from prefgen.rows import Format


class ConvertConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    file: Path
    """File of feedback or of another dataset: .jsonl .json .csv .parquet."""
    to: Literal["dpo", "kto", "reward"]
    """What to train: dpo and reward take pairs, kto single responses with a label."""
    out: Path
    """File to write: .jsonl or .parquet."""
    format: Format = "conversational"
    """conversational writes lists of messages, standard plain strings."""
    good_from: float | None = None
    """Lowest rating that counts as good; needed where the file has ratings."""
    bad_to: float | None = None
    """Highest rating that counts as bad; what lies between is dropped as neutral, and counted."""
    zero: Zero | None = None
    """What 0 means in label and thumbs; unset, neutral where the file has -1 too, and bad for a label."""
    rate_by: RateBy = "aspects"
    """Of UltraFeedback's ratings, the mean of the aspects where they are given, or the overall score."""
    pair_by: PairBy = "best-worst"
    """Of several rated or ranked responses, the best with the worst, or all pairs."""
    min_gap: float = Field(default=0, ge=0)
    """Smallest difference of two ratings that makes a pair; equal ratings never do."""
    dry_run: bool = False
    """Only count, and show the first row; nothing is written."""
    max_failed: float = Field(default=0.05, ge=0, le=1)
    """Largest share of rows that may be unusable; above it nothing is written but the list of them."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.out.suffix.lower() not in (".jsonl", ".parquet"):
            raise UsageError(f"--out {self.out}: expected a name that ends with .jsonl or .parquet")
        if self.file.resolve() == self.out.resolve():
            raise UsageError(f"--out {self.out} is the file that is read; choose another name")
        if self.good_from is not None and self.bad_to is not None and self.good_from <= self.bad_to:
            raise UsageError(
                f"--good-from {self.good_from:g} has to be above --bad-to {self.bad_to:g}: "
                "a rating is not both"
            )
        return self

    @property
    def rejected(self) -> Path:
        return self.out.with_name(f"{self.out.name}.rejected.jsonl")

"""Every option of `prefgen label`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.labelling.item import ADJUDICATOR, name_of

Sampling = Literal["random", "stratified", "informative"]
DrawFrom = Literal["all", "undecided", "pairs"]
FIRST = 200
"""Pairs of a run to draw where nothing is said: a start for `prefgen calibrate`."""


class LabelConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: Path
    """A pairs or labels file, or a finished run."""
    out: Path | None = None
    """Labels file to write (.jsonl); the answers stand beside it in a file .sqlite. [default:
    RUN/labels.jsonl, or FILE.labels.jsonl]."""
    count: int | None = Field(default=None, ge=1)
    """Pairs to draw; a larger one later adds to them. [default: all of a file, 200 of a run]."""
    sample: Sampling | None = None
    """How pairs are drawn: at random, stratified by the judge's confidence, or spread evenly along it, one a
    prompt (informative). [default: informative where a confidence is known]."""
    draw_from: DrawFrom = "all"
    """Of a run: all its comparisons, those nobody was sure of, or the pairs of its dataset."""
    audit: int | None = Field(default=None, ge=1)
    """Check so many emitted pairs of a run, at random, and tell how many are mislabelled."""
    verdicts: Path | None = None
    """What a judge said of the pairs of a file (prefgen judge), for --sample."""
    constitution: str | None = None
    """Principles to show beside the pairs: a file, or one that ships. [default: those of the run]."""
    annotators: tuple[str, ...] = ()
    """Who may label: a name, or several with commas. [default: anybody who has the address]."""
    overlap: int = Field(default=1, ge=1)
    """Annotators for each pair."""
    adjudicate: bool = False
    """Show the pairs on which annotators disagree, and take the final label."""
    export_only: bool = False
    """Write the labels file from what is kept, without a page."""
    host: str = "127.0.0.1"
    """Address to listen on; others than this machine's own let the network in."""
    port: int = Field(default=8765, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    seed: int = 0
    """Seed of the sample and the order; the sides are a secret of the file .sqlite."""

    @field_validator("annotators")
    @classmethod
    def _names(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name_of(name) for several in given for name in several.split(","))
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} stands twice")
        if ADJUDICATOR in names:
            raise ValueError(f"{ADJUDICATOR} is the name of who decides disagreements (--adjudicate)")
        return names

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.audit is not None and (self.count, self.sample, self.draw_from) != (None, None, "all"):
            raise ValueError(
                "--audit draws that many emitted pairs at random: leave out --count, --sample and --draw-from"
            )
        if self.adjudicate and self.export_only:
            raise ValueError("--adjudicate opens a page and --export-only does not; give one of them")
        if self.annotators and self.overlap > len(self.annotators):
            raise ValueError(f"--overlap {self.overlap} needs as many annotators, not {len(self.annotators)}")
        if self.out is not None and self.out.suffix != ".jsonl":
            raise ValueError(f"--out {self.out}: expected a name that ends with .jsonl")
        if self.out is not None and self.out.resolve() == self.source.resolve():
            raise ValueError(f"--out {self.out} is the file that is read; choose another name")
        return self

    @property
    def labels(self) -> Path:
        if self.out is not None:
            return self.out
        if self.source.is_dir():
            return self.source / ("labels.jsonl" if self.audit is None else "audit-labels.jsonl")
        return self.source.with_suffix(".labels.jsonl")

    @property
    def store(self) -> Path:
        """What people answered: kept at once, while the labels file is written from it."""
        return self.labels.with_suffix(".sqlite")

    @property
    def verdict_file(self) -> Path:
        """What the run's judge said of the pairs, in the form that calibrate reads."""
        return self.labels.with_suffix(".verdicts.jsonl")

"""Every option of `prefgen pair` without --out."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from prefgen.pairing import KTOLabels, Strategy

GRID = (
    "strategy",
    "min_confidence",
    "target_precision",
    "max_pairs",
    "max_similarity",
    "max_length_gap",
)


class GridConfig(BaseModel):
    """Settings that may be given several times, to compare them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    strategy: tuple[Strategy, ...] = ()
    """Which pair of a prompt's candidates to take. best-2sigma takes the rejected one nearest the mean
    score minus two standard deviations. [default: compare all; with --out best-worst]."""
    min_confidence: tuple[float, ...] = ()
    """Probability that chosen beats rejected, at least; pairs below it are dropped. [default: compare the
    run's own with 0.6 to 0.99; with --out 0.75]."""
    target_precision: tuple[float, ...] = ()
    """Keep the pairs that earn this label precision by the calibration, in place of --min-confidence."""
    max_pairs: tuple[int, ...] = ()
    """Pairs per prompt at most, the clearest first. [default: the run's own; with --out 1]."""
    max_similarity: tuple[float, ...] = ()
    """Two responses that share more than this of their words are the same answer. [default: the run's own;
    with --out 0.95]."""
    max_length_gap: tuple[float, ...] = ()
    """Largest difference in characters, as a share of the longer response. [default: the run's own; with
    --out no limit]."""

    @field_validator(*GRID, mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """One value needs no list in YAML."""
        return value if isinstance(value, list | tuple) else (value,)


class WhatIfConfig(GridConfig):
    run: Path
    """A finished run."""
    calibration: Path | None = None
    """calibration.json of this judge: confidences become probabilities that a human agrees."""
    choose_truncated: bool | None = None
    """Let a response that was cut by the token limit be chosen."""
    kto_labels: KTOLabels | None = None
    """KTO rows: the pairs' two sides, or every candidate clear of its prompt's mean."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of every random choice."""

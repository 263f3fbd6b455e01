"""Every option of `prefgen train dpo-sweep`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pipelines.generate_config import JudgingConfig
from prefgen.errors import UsageError
from trainers.dpo import DPOConfig


class SweepConfig(DPOConfig, JudgingConfig):
    """In place of the stage's `beta` come those of the sweep; its seed is that of all else, too."""

    sweep_beta: tuple[float, ...] = ()
    """A β to train with; given at least twice."""
    sweep_prompts: int = Field(default=64, ge=1)
    """Held-out prompts, at most, that every model answers: for KL and win rate."""
    sweep_tokens: int = Field(default=256, ge=1)
    """Tokens of such an answer at most."""

    @property
    def needs_judge(self) -> bool:
        return False

    @model_validator(mode="after")
    def _check_betas(self) -> Self:
        if len(set(self.sweep_beta)) < 2:
            raise UsageError("a sweep compares: give --sweep-beta twice or more, with different numbers")
        if min(self.sweep_beta) <= 0:
            raise UsageError(f"--sweep-beta {min(self.sweep_beta):g}: β has to be above 0")
        if self.watched_by is not None:
            raise UsageError("a sweep compares the models in the end, by --judge: leave --watch-… judges out")
        if self.accelerate is not None:
            raise UsageError("a sweep trains in one process: leave --accelerate out")
        return self

    @property
    def betas(self) -> list[float]:
        return sorted(set(self.sweep_beta))

    def stage(self, beta: float) -> DPOConfig:
        """One training of the sweep, in a folder of its own."""
        values = self.model_dump(exclude_unset=True, include=set(DPOConfig.model_fields))
        folder = self.out / f"beta-{beta:g}"
        used = folder.exists()
        own = {
            "beta": beta,
            "out": folder,
            "resume": self.resume and used,
            "overwrite": self.overwrite and used,
        }
        return DPOConfig.model_validate(values | own)

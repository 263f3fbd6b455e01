"""The options of running over several machines."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RAY_OPTIONS = (
    "engine",
    "ray_address",
    "policy_workers",
    "judge_workers",
    "gpus_per_worker",
    "shard_size",
)
"""Who does the work, not what is made: a resumed run may change them."""


class RayConfig(BaseModel):
    """Where the work is done."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    topics: ClassVar[dict[str, str]] = {"engine": "Several machines"}

    engine: Literal["local", "ray"] = "local"
    """In this process, or by pools of workers on a Ray cluster. What is made is the same."""
    ray_address: str | None = None
    """HOST:PORT of a running Ray cluster, or auto for the one this machine belongs to. [default: one is
    started on this machine for the run]."""
    policy_workers: int = Field(default=1, ge=1)
    """Ray: workers that sample, each with all policies."""
    judge_workers: int = Field(default=1, ge=1)
    """Ray: workers that judge, each with all judges."""
    gpus_per_worker: float | None = Field(default=None, ge=0)
    """Ray: GPUs of a worker that holds a vllm/ or transformers/ model. [default: 1 where the cluster has
    GPUs]."""
    shard_size: int | None = Field(default=None, ge=1)
    """Ray: prompts that are worked on, kept and done again together; a resumed run keeps the one it began
    with. [default: up to 128, fewer where workers would stand idle]."""

    @model_validator(mode="after")
    def _for_ray(self) -> Self:
        given = self.model_fields_set & set(RAY_OPTIONS) - {"engine"}
        told = sorted(name for name in given if getattr(self, name) != RayConfig.model_fields[name].default)
        if self.engine != "ray" and told:
            raise ValueError(f"--{told[0].replace('_', '-')} goes with --engine ray")
        return self

"""Every option of `prefgen why`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class WhyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    run: Path
    """A finished run, or a loop."""
    ids: tuple[str, ...] = ()
    """A pair, a prompt or a candidate, or two candidates."""
    constitution: str | None = None
    """The run's constitution, where its file is no longer in its place."""
    look_in: tuple[Path, ...] = ()
    """Folder to look for trainings on this run, beside those on record and near the run."""

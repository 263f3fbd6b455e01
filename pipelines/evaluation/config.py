"""Every option of `prefgen evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipelines.generate_config import JudgingConfig

_NEEDS_MODELS = (
    "model",
    "baseline",
    "judge",
    "reward_model",
    "trained_on",
    "held_out",
    "task",
)


class EvaluateConfig(JudgingConfig):
    prompts: Path | None = None
    """Prompt file; a column cluster names prompts that are alike, difficulty goes into length control."""
    model: str | None = None
    """MODEL to be evaluated, or a file of its answers: id or prompt, and response (null: it gave none)."""
    baseline: str | None = None
    """MODEL or file of answers to compare with."""
    out: Path | None = None
    """Directory for evaluation.json and annotations.jsonl."""
    annotations: Path | None = None
    """Stored judgments: everything is computed from them and no model is called."""
    against: Path | None = None
    """Annotations of another evaluation on the same prompts: the difference between both win rates."""
    labels: Path | None = None
    """Human labels by prompt id, of a random part of the prompts: corrects the judge's win rate."""
    detect: float = Field(default=5, gt=0, lt=50)
    """Points above or below 50 for which the prompts needed are worked out (80% power)."""
    stop_when_clear: bool = False
    """Judge 20 prompts at a time, in random order, and stop once an interval that allows for looking often
    leaves out 50%."""
    trained_on: Path | None = None
    """The run the model was trained on: warns where its judge judges here too."""
    held_out: Path | None = None
    """Demonstrations as train sft reads them: the log-loss of both models on them (local models)."""
    task: tuple[Path, ...] = ()
    """Task file (prompt, answer): how many of its answers both models get right. May be repeated."""
    temperature: float = Field(default=0, ge=0)
    """Sampling temperature of model and baseline; 0 takes the likeliest token."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens per answer at most."""
    system: str | None = None
    """System prompt for model and baseline."""

    @property
    def needs_judge(self) -> bool:
        return self.prompts is not None and self.annotations is None

    @property
    def sides(self) -> tuple[str, str]:
        """Model and baseline."""
        return self.model or "", self.baseline or ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.prompts is None) == (self.annotations is None):
            raise ValueError("give exactly one of PROMPTS and --annotations FILE")
        if self.annotations is not None:
            self._check_needs_no_model()
        else:
            self._check_sides()
        return self

    @model_validator(mode="after")
    def _looks_often_enough(self) -> Self:
        if self.batch and self.stop_when_clear:
            raise ValueError(
                "--stop-when-clear looks after every 20 prompts: a --batch for each takes too long"
            )
        return self

    def _check_needs_no_model(self) -> None:
        for name in _NEEDS_MODELS:
            if getattr(self, name):
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} needs PROMPTS and models; --annotations calls none")

    def _check_sides(self) -> None:
        for name in ("model", "baseline", "out"):
            if getattr(self, name) is None:
                raise ValueError(f"missing --{name}: {type(self).model_fields[name].description}")
        if self.model == self.baseline:
            raise ValueError(f"--model and --baseline are the same: {self.model}")

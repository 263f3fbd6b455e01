"""How a training is watched: options of every stage."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prefgen.errors import UsageError


class WatchConfig(BaseModel):
    """What is looked at while a stage trains, and what happens when it goes wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    topics: ClassVar[dict[str, str]] = {"watch_prompts": "Watching"}

    watch_prompts: int = Field(default=16, ge=0)
    """Held-out prompts the model answers at each evaluation, to see how its answers change; 0 = off."""
    watch_tokens: int = Field(default=256, ge=1)
    """Tokens of such an answer at most; answers that are all cut look equally long."""
    watch_kl: float | None = Field(default=None, gt=0)
    """Nats an answer may be from the starting model, on average, before an alarm. [default: no limit]."""
    watch_judge: str | None = None
    """MODEL that judges these answers at each evaluation: another one than the labels come from."""
    watch_reward_model: str | None = None
    """Reward model that scores these answers instead of a judge: vllm/, transformers/ or openai/…@URL."""
    watch_judging: Literal["pairwise", "pointwise"] = "pairwise"
    """How --watch-judge judges: against the starting model's answer to the same prompt, or each by itself."""
    watch_constitution: str = "helpful-honest-harmless"
    """Constitution of --watch-judge: a YAML file or a name."""
    watch_judge_template: Path | None = None
    """Prompt template of --watch-judge with --watch-judging pointwise."""
    watch_engine_arg: tuple[str, ...] = ()
    """KEY=VALUE for a watching model in this process, for example max_model_len=4096."""
    on_alarm: Literal["warn", "stop"] = "warn"
    """What an alarm does: warn, or end the training and keep the checkpoint from before."""
    allow_base_model: bool = False
    """Train although the start looks like a raw base model: no chat template, or it finds the good responses
    very unlikely."""

    @model_validator(mode="after")
    def _check_watching(self) -> WatchConfig:
        if self.watched_by is not None and not self.watch_prompts:
            raise UsageError("a watching judge needs answers to judge: raise --watch-prompts")
        if self.watch_judge is not None and self.watch_reward_model is not None:
            raise UsageError("give one of --watch-judge and --watch-reward-model")
        return self

    @property
    def watched_by(self) -> str | None:
        """The model that judges the answers, if one does."""
        return self.watch_judge or self.watch_reward_model

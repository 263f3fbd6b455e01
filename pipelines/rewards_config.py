"""Where the rewards of an online stage come from: a judge, a reward model, rules, or several of them."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from judges.listwise import MOST
from pipelines.generate_config import JudgingConfig
from prefgen.errors import UsageError
from trainers.rules import parse_rule

JUDGE, REWARD_MODEL = "judge", "reward-model"


class RewardsConfig(JudgingConfig):
    """Beside the stage's own config. Both have a seed, which is one option."""

    topics: ClassVar[dict[str, str]] = {"judging": "Rewards"}
    judging: Literal["pairwise", "pointwise", "score", "listwise"] = "pointwise"
    """How to judge. Ask of each response, principle by principle; rate each on a scale; or (grpo) compare the
    responses to one prompt two by two, or rank them in one call, which says nothing of how good all are."""
    reward_function: tuple[str, ...] = ()
    """Rule that scores from 0 to 1: format:REGEX, the whole response matches; accuracy:COLUMN, its final
    answer is the one in that column of the prompts; length:LOW-HIGH, in words."""
    reward_weight: tuple[str, ...] = ()
    """NAME=NUMBER, weight of a reward in the sum: judge, reward-model, or a rule's kind (the second rule of a
    kind is format_2). [default: 1]."""

    @field_validator("reward_function", "reward_weight", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        return (given,) if isinstance(given, str) else given

    @property
    def needs_judge(self) -> bool:
        return False

    @property
    def rules(self) -> dict[str, str]:
        """The spelling of each rule by its name."""
        found: dict[str, str] = {}
        for text in self.reward_function:
            kind, _ = parse_rule(text)
            count = sum(name.partition("_")[0] == kind for name in found) + 1
            found[kind if count == 1 else f"{kind}_{count}"] = text
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Of all rewards, in order."""
        judge = [JUDGE] if self.judge else []
        return (*judge, *([REWARD_MODEL] if self.reward_model is not None else []), *self.rules)

    @property
    def weights(self) -> dict[str, float]:
        """Of all rewards by name. Raises UsageError."""
        found = dict.fromkeys(self.names, 1.0)
        for text in self.reward_weight:
            name, _, number = text.partition("=")
            try:
                weight = float(number)
            except ValueError:
                weight = math.nan
            if name not in found or not math.isfinite(weight) or weight == 0:
                raise UsageError(
                    f"--reward-weight {text!r}: expected NAME=NUMBER, not 0, with NAME {' or '.join(found)}"
                )
            found[name] = weight
        return found

    @property
    def compares(self) -> bool:
        return compares(self)

    @model_validator(mode="after")
    def _some_reward(self) -> Self:
        if not self.names:
            raise ValueError(
                "nothing rewards: give --judge MODEL, --reward-model MODEL or --reward-function RULE"
            )
        _ = self.weights
        if self.batch:
            raise ValueError("--batch: a training that samples waits for each reward; leave it out")
        return self


def compares(config: JudgingConfig) -> bool:
    """Whether the judge only says which of the responses to one prompt is better."""
    return bool(config.judge) and config.judging in ("pairwise", "listwise")


def check_group(config: JudgingConfig, size: int) -> None:
    """`size`: responses to one prompt. Raises UsageError where the judge cannot judge so many."""
    if compares(config) and size < 2:
        raise UsageError(
            f"--judging {config.judging} compares responses to one prompt, and this stage samples one: use "
            "--judging pointwise or score, or a reward model"
        )
    if config.judge and config.judging == "listwise" and size > MOST:
        raise UsageError(f"--judging listwise ranks at most {MOST} responses: lower --group-size from {size}")

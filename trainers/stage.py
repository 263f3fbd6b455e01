"""What tells one stage from another, and what its trainer is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from prefgen.messages import Json
from trainers.loading import Head
from trainers.rows import Parse, Row

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback

Arrange: TypeAlias = Callable[[list[Row]], list[Row]]


def _as_they_stand(rows: list[Row]) -> list[Row]:
    return rows


@dataclass(frozen=True)
class Setup:
    """What a stage makes its TRL trainer of. `arguments`: for its TRL config, common to all stages."""

    model: PreTrainedModel
    reference: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase
    adapter: LoraConfig | None
    train: Dataset
    eval: Dataset | None
    arguments: dict[str, object]
    callbacks: list[TrainerCallback]

    def parts(self) -> dict[str, object]:
        """Keyword arguments of any TRL trainer; a stage with a reference adds that."""
        return {
            "model": self.model,
            "train_dataset": self.train,
            "eval_dataset": self.eval,
            "processing_class": self.tokenizer,
            "peft_config": self.adapter,
            "callbacks": self.callbacks,
        }


@dataclass(frozen=True)
class Stage:
    """What tells one stage from another.

    `folder`: its dataset in a run directory; `columns`: a row as TRL takes it; `build`: the TRL trainer and
    the settings worth reporting; `reference`: whether the start of training is kept to compare with;
    `keep_cut`: whether TRL cuts long rows (else drops them); `reserve`: tokens of `max_length` kept free for
    what the policy writes; `first_loss`: known loss while the policy is its reference; `arrange`: order of
    the kept rows, without those that fit no batch; `check`: further demands; `base_model`: whether a start
    that was never taught to answer fits, is worth a warning, or is refused.
    """

    name: str
    folder: Literal["dpo", "kto"]
    parse: Parse
    columns: Callable[[Row], dict[str, Json]]
    build: Callable[[Setup], tuple[Trainer, dict[str, Json]]]
    head: Head = "language"
    reference: bool = False
    keep_cut: bool = True
    reserve: int = 0
    first_loss: float | None = None
    arrange: Arrange = _as_they_stand
    check: Callable[[list[Row]], None] = lambda rows: None
    base_model: Literal["fits", "warn", "refuse"] = "fits"

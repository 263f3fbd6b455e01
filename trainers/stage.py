"""What tells one stage from another, and what its trainer is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from prefgen.messages import Json
from trainers.loading import Head
from trainers.monitor import Line
from trainers.rows import Parse, Row

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerState

Goal = Literal["loss", "reward", "objective/scores"]
Arrange: TypeAlias = Callable[[list[Row]], list[Row]]


def _as_they_stand(rows: list[Row]) -> list[Row]:
    return rows


class Trainer(Protocol):
    """What a run needs of a trainer; TRL's have it."""

    model: PreTrainedModel
    model_wrapped: Any
    state: TrainerState
    accelerator: Any

    def train(self, resume_from_checkpoint: str | None = None) -> object: ...
    def evaluate(self) -> object: ...
    def _load_from_checkpoint(self, resume_from_checkpoint: str) -> None: ...


@dataclass(frozen=True)
class Setup:
    """What a stage makes its trainer of. `arguments`: for its TRL config, common to all stages; `rows`,
    `eval_rows`: the rows that `train` and `eval` were made of, for a stage that samples by itself; `notes`:
    what `build` adds to is said to the user; `model_hash`: SHA-256 of the starting model's files, None where
    it is no local folder."""

    model: PreTrainedModel
    reference: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase
    adapter: LoraConfig | None
    train: Dataset
    eval: Dataset | None
    rows: Sequence[Row]
    eval_rows: Sequence[Row]
    arguments: dict[str, object]
    callbacks: list[TrainerCallback]
    notes: list[str] = field(default_factory=list)
    model_hash: str | None = None

    def parts(self) -> dict[str, Any]:
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

    `folder`: its dataset in a run directory; `columns`: a row as TRL takes it; `build`: the trainer and
    the settings worth reporting; `reference`: whether the start of training is kept to compare with;
    `notes`: what a user should hear of the options and the data;
    `keep_cut`: whether TRL cuts long rows (else drops them); `reserve`: tokens of `max_length` kept free for
    what the policy writes; `first_loss`: known loss while the policy is its reference; `arrange`: order of
    the kept rows, without those that fit no batch; `left_out`: why it leaves rows out; `check`: further
    demands; `inputs`: hashes of what else goes in; `goal`: the number on held-out rows that should fall
    (loss) or rise (reward); `review`: what the metrics of the whole run say, in words; `base_model`: whether
    a start that was never taught to answer fits, is worth a warning, or is refused.
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
    notes: tuple[str, ...] = ()
    arrange: Arrange = _as_they_stand
    left_out: str = "alone_in_last_batch"
    check: Callable[[list[Row]], None] = lambda rows: None
    inputs: Mapping[str, str | None] = field(default_factory=dict)
    goal: Goal = "loss"
    review: Callable[[Sequence[Line]], list[str]] = lambda lines: []
    base_model: Literal["fits", "warn", "refuse"] = "fits"

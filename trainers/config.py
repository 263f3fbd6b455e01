"""What every training stage is told: one object, from which the command line makes its options."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from prefgen.errors import UsageError
from trainers.watch_config import WatchConfig

Dtype = Literal["float32", "bfloat16"]


class StageConfig(WatchConfig):
    """The options all stages share; a stage adds its own fields and its default learning rates."""

    topics: ClassVar[dict[str, str]] = {
        "model": "Model and data",
        "epochs": "Steps",
        "max_length": "Model and data",
        "seed": "Run",
        "lora": "Adapter",
        "dtype": "Precision and memory",
        "logging_steps": "Metrics and checkpoints",
        "accelerate": "Several devices",
        "resume": "Run",
    }
    full_rate: ClassVar[float] = 2e-5
    lora_rate: ClassVar[float] = 2e-4
    smallest_batch: ClassVar[int] = 1

    model: str
    """The model to start from: a folder or a Hugging Face id. It is read, never written."""
    data: Path
    """A complete run directory, or one file (.jsonl .json .csv .parquet) with this stage's columns."""
    out: Path
    """A new folder for the trained model, its metrics and its checkpoints."""
    eval_data: Path | None = None
    """A file of held-out rows; unset, a run directory's own test split, or a share split off."""
    eval_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the prompts held out where there is no test file; a prompt's rows all go to one side."""
    as_chat: bool = False
    """Read plain strings as a user's and an assistant's turn, so that the chat template is applied."""
    allow_no_end: bool = False
    """Train although no completion has an end token; such a model writes on until it is cut."""

    epochs: float = Field(default=1, gt=0)
    """Passes over the training rows; more than one or two overfits preference data quickly."""
    max_steps: int = Field(default=0, ge=0)
    """Stop after this many optimizer steps whatever the epochs; 0 leaves it to the epochs."""
    batch_size: int = Field(default=8, ge=1)
    """Rows (pairs, where a row is a pair) in one forward pass; memory grows with it."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes summed into one optimizer step, for a larger batch in the same memory."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak of the cosine schedule; unset, the stage's default for full or LoRA training."""
    warmup: float = Field(default=0.1, ge=0)
    """Warm-up to the peak rate: a share of all steps when below 1, else a number of steps."""
    max_length: int = Field(default=1024, ge=2)
    """Most tokens of prompt and completion together; what is longer is cut or dropped, and counted."""
    seed: int = 42
    """Order of the rows and new weights; the same seed on the same machine gives the same model."""

    lora: bool = False
    """Train a small adapter and leave the model's own weights alone: far less memory and disk."""
    lora_rank: int = Field(default=16, ge=1)
    """Rank of the adapter: its size and what it can learn."""
    lora_alpha: int = Field(default=32, ge=1)
    """Scale of the adapter; what counts is alpha / rank, usually 2."""
    lora_targets: tuple[str, ...] = ("all-linear",)
    """Names of the layers that get an adapter; all-linear means every linear layer but the output head."""
    qlora: bool = False
    """LoRA over weights held in 4 bits (NF4), for large models; needs CUDA and bitsandbytes."""
    merge: bool = False
    """After LoRA, write the merged full model to OUT/merged as well, for engines that load no adapters."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the arithmetic; auto is bfloat16 autocast on CUDA and float32 on the CPU."""
    load_dtype: Dtype = "float32"
    """Precision in which the weights are held; bfloat16 halves the memory but loses small updates."""
    save_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the saved full model; auto keeps the one it was trained in."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: about a quarter less memory for a tenth more time."""

    logging_steps: int = Field(default=1, ge=1)
    """Optimizer steps between two lines of metrics, each the mean since the one before."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps between two evaluations on the held-out rows; unset, ten times over the run."""
    early_stopping_patience: int = Field(default=0, ge=0)
    """Stop after this many evaluations in a row without a lower loss, and keep the best model; 0 = off."""
    save_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps between two checkpoints, from which --resume goes on; unset, at each evaluation."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many checkpoints stay on disk; each is about three times as large as the trained weights."""
    report_to: tuple[str, ...] = ()
    """Trackers that get the metrics as well, such as tensorboard; none by default, since some upload them."""
    accelerate: str | None = None
    """Train on several devices: ddp, fsdp2, deepspeed_zero2, deepspeed_zero3, or a file of accelerate's."""
    accelerate_arg: tuple[str, ...] = ()
    """KEY=VALUE over what the accelerate config says, for example num_processes=4 or machine_rank=1."""
    resume: bool = False
    """Go on from the last checkpoint in OUT; a finished run is returned as it is."""
    overwrite: bool = False
    """Delete an earlier training run in OUT first."""

    @model_validator(mode="after")
    def _check_together(self) -> StageConfig:
        if self.resume and self.overwrite:
            raise UsageError("--resume keeps an earlier run and --overwrite deletes it: give one of them")
        if self.batch_size < self.smallest_batch:
            raise UsageError(
                f"this stage needs --batch-size {self.smallest_batch} or more, not {self.batch_size}"
            )
        if self.merge and not self.adapter:
            raise UsageError("--merge joins an adapter with its model, so it needs --lora or --qlora")
        if self.early_stopping_patience and self.saving_interval % self.evaluation_interval:
            raise UsageError(
                f"early stopping keeps the best checkpoint, so --save-steps ({self.save_steps}) has to be a "
                f"multiple of --eval-steps ({self.eval_steps})"
            )
        return self

    @property
    def adapter(self) -> bool:
        """Whether an adapter is trained instead of the whole model."""
        return self.lora or self.qlora

    @property
    def rate(self) -> float:
        """The peak learning rate in use."""
        return self.learning_rate or (self.lora_rate if self.adapter else self.full_rate)

    @property
    def evaluation_interval(self) -> float:
        """Optimizer steps, or a share of all steps when below 1."""
        return self.eval_steps or self.save_steps or 0.1

    @property
    def saving_interval(self) -> float:
        """Optimizer steps, or a share of all steps when below 1."""
        return self.save_steps or self.evaluation_interval

"""The one mapping from our options to those TRL's trainers share."""

from __future__ import annotations

from typing import TypedDict

from trainers.config import StageConfig


class Device(TypedDict):
    use_cpu: bool
    bf16: bool


def device_arguments(config: StageConfig) -> Device:
    """TRL's own default, bfloat16 on whatever there is, raises on a machine without a GPU."""
    import torch

    cuda = torch.cuda.is_available()
    return {"use_cpu": not cuda, "bf16": config.dtype == "bfloat16" or (config.dtype == "auto" and cuda)}


def trl_arguments(config: StageConfig, max_length: int, evaluates: bool, resuming: bool) -> dict[str, object]:
    """Keyword arguments for any TRL config. `max_length`: tokens, after the model's own limit."""
    device = device_arguments(config)
    arguments: dict[str, object] = {
        **device,
        "output_dir": str(config.out / "checkpoints"),
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "learning_rate": config.rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": config.warmup,
        "max_length": max_length,
        "seed": config.seed,
        "gradient_checkpointing": config.gradient_checkpointing,
        "dataloader_pin_memory": not device["use_cpu"],
        "logging_steps": config.logging_steps,
        "logging_first_step": True,
        # The default replaces a loss that is NaN by the mean, which hides that training broke.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.saving_interval,
        "save_total_limit": config.keep_checkpoints,
        "report_to": list(config.report_to) or "none",
        "disable_tqdm": True,
    }
    return arguments | (_evaluation(config, resuming) if evaluates else {})


def _evaluation(config: StageConfig, resuming: bool) -> dict[str, object]:
    arguments: dict[str, object] = {
        "eval_strategy": "steps",
        "eval_steps": config.evaluation_interval,
        "eval_on_start": not resuming,
    }
    if config.early_stopping_patience:
        arguments |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
            # Without it a resumed run forgets how many evaluations it has waited already.
            "restore_callback_states_from_checkpoint": True,
        }
    return arguments

"""Our losses, layout and cache against TRL's own trainers: the same losses, step by step, in float32."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from tiny import turn, write_jsonl

from trainers.dpo import DPOConfig, train_dpo
from trainers.orpo import ORPOConfig, train_orpo

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

STEPS = 4
COMMON = {
    "batch_size": 4,
    "max_steps": STEPS,
    "learning_rate": 1e-3,
    "gradient_checkpointing": False,
    "seed": 3,
    "allow_base_model": True,
    "watch_prompts": 0,
}
WORDS = ("what is the colour of the sky", "rain", "the river is wide and the grass is green", "blue today")


def rows() -> list[dict[str, Any]]:
    """Pairs of many lengths, some cut at 40 tokens."""
    return [
        {
            "prompt": [turn("user", " ".join(WORDS[: 1 + number % 3]))],
            "chosen": [turn("assistant", f"{WORDS[number % 4]} {number}")],
            "rejected": [turn("assistant", f"{WORDS[3 - number % 4]} " * (1 + number % 2))],
        }
        for number in range(20)
    ]


def ours(train: Any, config: Any, tmp_path: Path, model: Path, **options: object) -> list[float]:
    data = write_jsonl(tmp_path / "rows.jsonl", rows())
    values = {"model": str(model), "data": data, "out": tmp_path / "out", "eval_share": 0, "max_length": 40}
    out = train(config.model_validate(values | COMMON | options))
    assert json.loads((out / "training.json").read_text())["settings"]["layout"] == "a row a pair"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def arguments(tmp_path: Path) -> dict[str, Any]:
    """Of a plain script with what `prefgen train` gives TRL."""
    return {
        "output_dir": str(tmp_path / "trl"),
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": COMMON["batch_size"],
        "max_steps": STEPS,
        "learning_rate": COMMON["learning_rate"],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "max_length": 40,
        "seed": COMMON["seed"],
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"loss": "sigmoid"}, {"loss_type": ["sigmoid"]}),
        ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
        ({"loss": "hinge"}, {"loss_type": ["hinge"]}),
        ({"loss": "robust", "noise_rate": 0.2}, {"loss_type": ["robust"], "label_smoothing": 0.2}),
        # TRL's sigmoid ignores label smoothing; 2(1-e) · sigmoid - (1-2e) · robust is conservative DPO.
        (
            {"loss": "conservative", "noise_rate": 0.2},
            {"loss_type": ["sigmoid", "robust"], "loss_weights": [1.6, -0.6], "label_smoothing": 0.2},
        ),
        ({"length_normalized": True}, {"loss_type": ["sigmoid_norm"]}),
        ({"sft_weight": 0.3}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}),
    ],
    ids=lambda value: str(value) if "loss_type" not in value else "",
)
def test_dpo(options: dict[str, object], terms: dict[str, Any], model: Path, tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig as Arguments
    from trl import DPOTrainer

    found = ours(train_dpo, DPOConfig, tmp_path, model, beta=0.5, **options)
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        ref_model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=Arguments(**arguments(tmp_path), beta=0.5, **terms),
        train_dataset=Dataset.from_list(rows()),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    stock = losses(trainer)
    assert len(stock) == STEPS
    assert len(set(stock)) >= STEPS - 1  # the first step has a learning rate of 0
    assert found == pytest.approx(stock, abs=1e-5)


def test_orpo(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.orpo import ORPOConfig as Arguments
        from trl.experimental.orpo import ORPOTrainer

        found = ours(train_orpo, ORPOConfig, tmp_path, model, odds_weight=0.5, learn_prompts=True)
        trainer = ORPOTrainer(
            AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            args=Arguments(**arguments(tmp_path), beta=0.5),
            train_dataset=Dataset.from_list(rows()),
            processing_class=AutoTokenizer.from_pretrained(model),
        )
        stock = losses(trainer)
    assert found == pytest.approx(stock, abs=1e-5)

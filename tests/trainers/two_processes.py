"""Every stage under `accelerate launch`: `two_processes.py FOLDER`, a folder with a model and data."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from trainers import processes
from trainers.dpo import DPOConfig, train_dpo
from trainers.kto import KTOConfig, train_kto
from trainers.reward import RewardConfig, train_reward
from trainers.sft import SFTConfig, train_sft

STAGES = {
    "sft": (train_sft, SFTConfig, "pairs"),
    "reward": (train_reward, RewardConfig, "pairs"),
    "dpo": (train_dpo, DPOConfig, "pairs"),
    "kto": (train_kto, KTOConfig, "labelled"),
}
RUNS = (("sft", False), ("sft", True), ("reward", False), ("dpo", False), ("dpo", True), ("kto", False))


def train(folder: Path, stage: str, adapter: bool, batch: dict[str, int], **options: object) -> Path:
    run, config, data = STAGES[stage]
    out = folder / f"{stage}-{'lora' if adapter else 'full'}"
    values = {"model": str(folder / "model"), "data": folder / f"{data}.jsonl", "out": out, "lora": adapter}
    rates = {"learning_rate": 1e-3, "max_steps": 6, "eval_steps": 2, "eval_share": 0.2}
    return run(config.model_validate(values | rates | batch | options))


def main(folder: Path) -> None:
    batch = {"batch_size": 2}
    for stage, adapter in RUNS:
        train(folder, stage, adapter, batch)
    out = folder / "dpo-full"
    if processes.is_main():
        # As a kill after step 4 leaves it.
        shutil.copytree(out, folder / "whole")
        shutil.rmtree(out / "checkpoints" / "checkpoint-6")
        (out / "training.json").unlink()
        (out / "model.safetensors").unlink()
    processes.wait()
    train(folder, "dpo", False, batch, resume=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

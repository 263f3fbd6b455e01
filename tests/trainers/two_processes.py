"""Every stage under `accelerate launch`: `two_processes.py FOLDER`, a folder with a model and data."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from trainers import loading, processes
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
    rates |= {"allow_base_model": True, "watch_prompts": 2, "watch_tokens": 8}
    return run(config.model_validate(values | rates | batch | options))


def share_and_gather(folder: Path, adapter: bool) -> None:
    """A model in shares by FSDP2 becomes a whole one again, as a stage does it after training."""
    import torch
    from peft import get_peft_model
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import fully_shard

    config = SFTConfig(model=str(folder / "model"), data=folder, out=folder, lora=adapter)
    lora = loading.lora_config(config, "language")
    torch.manual_seed(0)
    model = loading.load_model(config.model, "language", "float32")
    model = get_peft_model(model, lora) if lora else model
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(weight.requires_grad)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for layer in (model.base_model.model if lora else model).model.layers:
        fully_shard(layer)
    fully_shard(model)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    if processes.is_main():
        after = loading.load_weights(config, "language", lora, weights).state_dict()
        assert after.keys() == before.keys()
        assert trained
        assert all(torch.equal(after[name], before[name]) for name in after)
        (folder / f"gathered-{'lora' if adapter else 'full'}").touch()
    processes.wait()


def main(folder: Path) -> None:
    processes.join()
    share_and_gather(folder, adapter=False)
    share_and_gather(folder, adapter=True)
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

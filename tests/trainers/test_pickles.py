"""A training opens no pickle of a user's; those of its own checkpoints are opened as data only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from tiny import pairs, write_jsonl

from prefgen.errors import ModelUnavailableError, RunDirectoryError
from trainers.sft import SFTConfig, train_sft

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]
OPTIONS = {
    "batch_size": 4, "eval_share": 0.2, "max_steps": 4, "eval_steps": 2, "save_steps": 2, "watch_prompts": 0,
    "gradient_checkpointing": False, "allow_base_model": True,
}  # fmt: skip


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str, int], None], tuple[str, int]]:
        return os.mkdir, (str(self.marker), 0o700)


def train(model: Path, data: Path, out: Path, on_log: Any = None, **more: object) -> Path:
    values = {"model": str(model), "data": data, "out": out, **OPTIONS, **more}
    return train_sft(SFTConfig.model_validate(values), on_log)


def test_a_model_of_pickled_weights_is_refused(model: Path, tmp_path: Path) -> None:
    import torch

    start, marker = tmp_path / "start", tmp_path / "ran"
    copytree(model, start)
    (start / "model.safetensors").unlink()
    torch.save(Bomb(marker), start / "pytorch_model.bin")
    with pytest.raises(ModelUnavailableError, match="are pickled"):
        train(start, write_jsonl(tmp_path / "p.jsonl", pairs(24)), tmp_path / "out")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_pickle_put_into_a_checkpoint_is_not_run_on_resuming(
    name: str, model: Path, tmp_path: Path
) -> None:
    import torch

    data, out, marker = write_jsonl(tmp_path / "p.jsonl", pairs(24)), tmp_path / "out", tmp_path / "ran"

    def interrupt(numbers: dict[str, float]) -> None:
        if numbers["step"] >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, data, out, interrupt)
    (planted,) = out.glob(f"checkpoints/checkpoint-*/{name}")
    torch.save(Bomb(marker), planted)
    if name == "training_args.bin":
        train(model, data, out, resume=True)
    else:
        with pytest.raises(RunDirectoryError, match=r"checkpoint-2 .* no data .* delete"):
            train(model, data, out, resume=True)
    assert not marker.exists()

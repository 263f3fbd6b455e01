"""kill -9 in the middle of `prefgen train`: resumed, it ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import Runner

sys.path.append(str(Path(__file__).parents[1] / "trainers"))

pytestmark = pytest.mark.train


def metrics(out: Path) -> list[dict[str, object]]:
    """The lines without what a clock, or a counter of one process, says."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    counted = ("runtime", "per_second", "num_tokens", "total_flos", "train_loss")
    return [{key: line[key] for key in line if not key.endswith(counted)} for line in lines]


@pytest.mark.parametrize(("stage", "adapter"), [("sft", False), ("sft", True), ("dpo", False), ("dpo", True)])
def test_a_training_that_was_killed_ends_with_the_same_weights(
    stage: str, adapter: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from tiny import make_model, pairs, write_jsonl

    torch.set_num_threads(1)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    given = ["train", stage, "--model", make_model(tmp_path / "model"), "--batch-size", 2, "--epochs", 10,
             "--data", write_jsonl(tmp_path / "pairs.jsonl", pairs(40)), "--learning-rate", 1e-3,
             "--max-steps", 60, "--eval-steps", 20, *(["--lora"] if adapter else []), "--quiet",
             "--allow-base-model"]  # fmt: skip
    prefgen = str(Path(sys.executable).with_name("prefgen"))
    process = subprocess.Popen(
        [prefgen, *map(str, given), "--out", str(killed)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    # Past a checkpoint and well before the end.
    while not (killed / "checkpoints" / "checkpoint-20").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "training.json").exists()
    run = Runner(capsys)
    for folder, more in ((killed, ["--resume"]), (whole, [])):
        done = run(*given, "--out", folder, *more)
        assert done.code == 0, done.err
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert metrics(killed) == metrics(whole)

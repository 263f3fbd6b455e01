"""`accelerate launch` with two processes of this machine: the same models as one process makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import labelled, make_model, pairs, write_jsonl
from two_processes import RUNS, train

from prefgen.assets import asset
from trainers.report import read_report

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `two_processes.py` leaves behind."""
    folder = tmp_path_factory.mktemp("two")
    make_model(folder / "model")
    write_jsonl(folder / "pairs.jsonl", pairs(40))
    write_jsonl(folder / "labelled.jsonl", labelled(40))
    config = asset("accelerate/cpu_two_processes.yaml")
    command = ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    done = subprocess.run(
        [sys.executable, *command, str(Path(__file__).with_name("two_processes.py")), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def weights(out: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    return load_file(out / ("model.safetensors" if "full" in out.name else "adapter_model.safetensors"))


def losses(out: Path) -> list[float]:
    lines = (json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["split"] in ("train", "eval")]


@pytest.mark.parametrize(("stage", "adapter"), RUNS)
def test_every_stage_trains_in_two_processes(stage: str, adapter: bool, folder: Path) -> None:
    out = folder / f"{stage}-{'lora' if adapter else 'full'}"
    report = read_report(out)
    assert (report.settings["processes"], report.steps) == (2, 6)
    assert report.reload.max_difference < 1e-6
    assert (report.frozen_sha256 is not None) == (adapter or stage == "kto")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["split"] not in ("watch", "alarm")]
    assert steps == [0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 6, 6]
    assert [line["step"] for line in lines if line["split"] == "watch"] == [0, 2, 4, 6]


@pytest.mark.parametrize(("stage", "adapter"), [("sft", False), ("dpo", False), ("dpo", True)])
def test_two_processes_make_the_model_that_one_makes(
    stage: str, adapter: bool, folder: Path, tmp_path: Path
) -> None:
    """The same rows a step, so the same but for the order in which float32 sums are rounded."""
    name = f"{stage}-{'lora' if adapter else 'full'}"
    for kind in ("model", "pairs.jsonl"):
        (tmp_path / kind).symlink_to(folder / kind)
    alone = train(tmp_path, stage, adapter, {"batch_size": 2, "gradient_accumulation": 2})
    assert losses(folder / name) == pytest.approx(losses(alone), abs=1e-5)
    left, right = weights(folder / name), weights(alone)
    assert left.keys() == right.keys()
    assert max(float((left[name] - right[name]).abs().max()) for name in left) < 1e-4  # type: ignore[operator]


def test_weights_in_shares_become_a_whole_model_again(folder: Path) -> None:
    assert {path.name for path in folder.glob("gathered-*")} == {"gathered-full", "gathered-lora"}


def test_two_processes_resume_to_the_same_weights(folder: Path) -> None:
    whole, resumed = (folder / name / "model.safetensors" for name in ("whole", "dpo-full"))
    assert whole.read_bytes() == resumed.read_bytes()
    assert losses(folder / "whole") == losses(folder / "dpo-full")

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import pairs, write_jsonl

from prefgen.errors import UsageError
from trainers.sft import SFTConfig, train_sft
from trainers.trackers import check_trackers, logging_folder


def config(model: Path, tmp_path: Path, tracker: str) -> SFTConfig:
    values = {"model": str(model), "data": write_jsonl(tmp_path / "rows.jsonl", pairs(8)), "max_steps": 2}
    return SFTConfig.model_validate(values | {"out": tmp_path / "out", "report_to": (tracker,)})


@pytest.mark.train
def test_tensorboard_gets_the_metrics_offline(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train_sft(config(model, tmp_path, "tensorboard"))
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    assert not (out / "checkpoints" / "runs").exists()


def test_an_unknown_tracker_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"--report-to tensorbord: expected one of .*tensorboard"):
        check_trackers(["tensorbord"])


@pytest.mark.train
def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="run: pip install tensorboard"):
        train_sft(config(model, tmp_path, "tensorboard"))
    with pytest.raises(UsageError, match="run: pip install wandb"):
        check_trackers(["wandb"])
    assert not (tmp_path / "out").exists()


def test_the_users_own_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TENSORBOARD_LOGGING_DIR"
    monkeypatch.delenv(name, raising=False)
    with logging_folder(tmp_path):
        assert os.environ[name] == str(tmp_path / "tensorboard")
    assert name not in os.environ
    monkeypatch.setenv(name, "mine")
    with logging_folder(tmp_path):
        assert os.environ[name] == "mine"
    assert os.environ[name] == "mine"

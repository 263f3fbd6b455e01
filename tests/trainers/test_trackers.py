from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import pairs, write_jsonl

from prefgen.errors import UsageError
from trainers.sft import SFTConfig, train_sft
from trainers.trackers import check_trackers, logging_folder, places


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
    with pytest.raises(UsageError, match=r"--report-to tensorbord: .*; did you mean tensorboard\?"):
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


def test_the_places_of_the_metrics_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    told = places(("tensorboard", "wandb"), tmp_path)
    assert told == {"tensorboard": str(tmp_path / "tensorboard"), "wandb": None}
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "mine")
    assert places(("tensorboard",), tmp_path) == {"tensorboard": "mine"}


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


def test_what_a_tracker_prints_stays_out_of_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "theirs")  # So that it is put back.
    monkeypatch.delenv("WANDB_SILENT")
    with logging_folder(tmp_path):
        print("[INFO] Running in WANDB offline mode")
    assert capsys.readouterr() == ("", "[INFO] Running in WANDB offline mode\n")
    assert os.environ["WANDB_SILENT"] == "true"
    monkeypatch.setenv("WANDB_SILENT", "false")
    with logging_folder(tmp_path):
        assert os.environ["WANDB_SILENT"] == "false"


def test_a_tracker_that_fails_is_named(tmp_path: Path) -> None:
    fault = type("MlflowException", (Exception,), {"__module__": "mlflow.exceptions"})
    with (
        pytest.raises(UsageError, match="--report-to mlflow: no such store"),
        logging_folder(tmp_path, ("mlflow",)),
    ):
        raise fault("no such store")
    with pytest.raises(fault), logging_folder(tmp_path):
        raise fault("not ours")

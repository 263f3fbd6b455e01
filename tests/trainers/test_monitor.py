from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from prefgen.errors import GateError
from trainers.monitor import Monitor


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_log_is_a_line_and_a_call(tmp_path: Path) -> None:
    heard: list[dict[str, float]] = []
    monitor = Monitor(tmp_path / "metrics.jsonl", on_log=heard.append)
    monitor.log(3, {"loss": 0.5, "epoch": 0.1, "rewards/margins": 2, "note": "text"})
    monitor.log(3, {"eval_loss": 0.4, "eval_kl": math.inf, "epoch": 0.1})
    monitor.final = True
    monitor.log(3, {"eval_loss": 0.3, "epoch": 0.1})
    monitor.log(3, {"train_runtime": 9.0, "epoch": 0.1})
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 3, "epoch": 0.1, "split": "train", "loss": 0.5, "rewards/margins": 2.0},
        {"step": 3, "epoch": 0.1, "split": "eval", "loss": 0.4, "kl": None},
        {"step": 3, "epoch": 0.1, "split": "final", "loss": 0.3},
        {"step": 3, "epoch": 0.1, "split": "end", "train_runtime": 9.0},
    ]
    assert heard[0] == {"step": 3.0, "loss": 0.5, "epoch": 0.1, "rewards/margins": 2.0}
    assert heard[1]["eval_loss"] == 0.4
    assert (monitor.find("eval", "final") or {})["loss"] == 0.4
    assert (monitor.find("eval", "final", last=True) or {})["loss"] == 0.3


@pytest.mark.parametrize(("step", "logs"), [(0, {"eval_loss": 0.658}), (1, {"loss": 0.658})])
def test_a_wrong_reference_stops_the_run_at_once(tmp_path: Path, step: int, logs: dict[str, float]) -> None:
    monitor = Monitor(tmp_path / "metrics.jsonl", first_loss=math.log(2))
    with pytest.raises(GateError, match=r"0.65800.*0.69315"):
        monitor.log(step, logs)


def test_later_losses_are_free(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "metrics.jsonl", first_loss=math.log(2))
    monitor.log(0, {"eval_loss": 0.69315})
    monitor.log(1, {"loss": 0.69315})
    monitor.log(1, {"eval_loss": 0.5})
    monitor.log(2, {"loss": 0.5})


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="loss is nan at step 4"):
        Monitor(tmp_path / "metrics.jsonl").log(4, {"loss": math.nan})


def test_a_resumed_run_writes_no_line_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Monitor(path)
    for step in (1, 2, 3):
        first.log(step, {"loss": 1.0 / step})
    with path.open("a") as file:
        file.write('{"step": 4, "los')
    second = Monitor(path)
    second.rewind(2)
    second.log(3, {"loss": 0.1})
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(1, 1.0), (2, 0.5), (3, 0.1)]


def test_a_run_that_begins_anew_writes_its_first_evaluation_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    Monitor(path).log(0, {"eval_loss": 1.0})
    again = Monitor(path)
    again.rewind(-1)
    again.log(0, {"eval_loss": 1.0})
    assert [line["step"] for line in lines(path)] == [0]


def test_a_further_process_writes_nothing(tmp_path: Path) -> None:
    heard: list[dict[str, float]] = []
    path = tmp_path / "metrics.jsonl"
    monitor = Monitor(path, on_log=heard.append, writes=False)
    monitor.rewind(0)
    monitor.log(1, {"loss": 0.5})
    assert not path.exists()
    assert heard == []
    assert (monitor.find("train") or {})["loss"] == 0.5
    with pytest.raises(GateError):
        monitor.log(2, {"loss": math.nan})

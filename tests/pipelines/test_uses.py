"""A run knows who used it: on record, moved, gone, read-only, and on its page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from asked import Fakes, fakes, generated
from looping import install, write_config
from page import HOSTILE, Page
from running import FAKES, Runner, files, some_prompts, write_prompts

import pipelines.train as training
from pipelines.console import Console
from pipelines.evaluation import numbers
from pipelines.report.used_by import used_by
from pipelines.uses import (
    FILE,
    record,
    record_evaluation,
    record_training,
    rows_of,
    run_of,
    runs_behind,
    uses,
)
from trainers.dpo import DPOConfig

__all__ = ["fakes"]


@pytest.fixture
def run(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> Path:
    return generated(prefgen, tmp_path)


def trained(folder: Path, run: Path, **more: Any) -> Path:
    """The folder of a training that says it read the run's pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "stage": "dpo",
        "config": {"data": str(run), "model": "none"},
        "inputs": {"train": rows_of(run)["dpo/train.parquet"]},
    }
    (folder / "training.json").write_text(json.dumps(told | more))
    return folder


def test_a_use_is_on_record_once(run: Path, tmp_path: Path) -> None:
    model = trained(tmp_path / "far" / "away" / "and" / "deep", run)
    assert uses(run) == []
    for _ in range(2):
        record_training(run / "dpo" / "train.parquet", model)
    (use,) = uses(run)
    assert (use.kind, use.path, use.gone, use.recorded) == ("training", model, False, True)
    assert use.rows == rows_of(run)
    assert len((run / FILE).read_text().splitlines()) == 1


def test_a_run_made_anew_begins_a_new_record(run: Path, tmp_path: Path, prefgen: Runner) -> None:
    record(run, "pair", tmp_path / "paired")
    generated(prefgen, tmp_path, "--overwrite")
    assert uses(run) == []


def test_only_a_finished_run_keeps_a_record(run: Path, tmp_path: Path) -> None:
    assert run_of(run) == run_of(run / "dpo" / "train.parquet") == run
    assert run_of(tmp_path / "prompts.jsonl") is None
    before = files(tmp_path)
    record_training(tmp_path / "prompts.jsonl", trained(tmp_path / "model", run))
    assert files(tmp_path) - before == {"model/training.json"}


def test_run_and_model_move_together_or_the_model_is_gone(run: Path, tmp_path: Path) -> None:
    record_training(run, trained(tmp_path / "models" / "first", run))
    (tmp_path / "elsewhere").mkdir()
    for name in ("run", "models"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    moved = tmp_path / "elsewhere" / "run"
    (use,) = uses(moved)
    assert (use.path, use.gone) == (tmp_path / "elsewhere" / "models" / "first", False)
    shutil.rmtree(use.path)
    (use,) = uses(moved)
    assert (use.path, use.gone) == (tmp_path / "models" / "first", True)


def test_of_a_run_that_may_not_be_written_trainings_are_found_by_their_rows(
    run: Path, tmp_path: Path
) -> None:
    (run / FILE).mkdir()  # What refuses a line for root too.
    mine = trained(tmp_path / "models" / "mine", run)
    trained(tmp_path / "models" / "other", run, inputs={"train": "another file"})
    record_training(run, mine)
    (use,) = uses(run)
    assert (use.path, use.recorded, use.time) == (mine, False, None)
    deep = trained(tmp_path / "a" / "b" / "c" / "model", run)
    assert [use.path for use in uses(run, (deep.parent,))] == [deep, mine]


def test_a_line_that_cannot_be_read_is_passed_over(run: Path, tmp_path: Path) -> None:
    record(run, "pair", tmp_path / "one")
    with (run / FILE).open("a") as file:
        file.write('{"kind": "training", "pa\n{"kind": "sorcery", "path": "x", "relative": "x"}\n[]\n')
    record(run, "pair", tmp_path / "two")
    assert [use.path.name for use in uses(run)] == ["one", "two"]


@pytest.mark.parametrize("text", ["{", "[]", '{"steps": 3}', '{"config": "a.yaml", "inputs": {}}'])
def test_a_training_json_of_another_program_is_passed_over(text: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "training.json").write_text(text)
    assert uses(run) == []
    assert list(runs_behind(tmp_path / "theirs")) == []


def test_datasets_loads_a_run_that_was_used(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    record_training(run, trained(tmp_path / "model", run))
    found = datasets.load_dataset(str(run), "dpo", cache_dir=str(tmp_path / "cache"))
    assert found["train"].num_rows == 6


def test_an_evaluation_is_on_record_at_the_runs_behind_the_model(run: Path, tmp_path: Path) -> None:
    first = trained(tmp_path / "sft", run)
    second = trained(tmp_path / "dpo", run, config={"data": "nowhere", "model": str(first)})
    (second / "merged").mkdir()
    assert list(runs_behind(second / "merged")) == [run]
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "evaluation.json").write_text("{}")
    record_evaluation((f"vllm/{second}/merged", "openai/other"), tmp_path / "evaluation")
    assert [(use.kind, use.path.name) for use in uses(run) if use.recorded] == [("evaluation", "evaluation")]
    itself = trained(tmp_path / "circle", run, config={"data": "nowhere", "model": str(tmp_path / "circle")})
    assert list(runs_behind(itself)) == []


def test_evaluate_leaves_a_record(prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "RESAMPLES", 50)
    monkeypatch.setattr(numbers, "_REFITS", 10)
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    assert prefgen("generate", prompts, *FAKES, "--n", 2, "--out", tmp_path / "run").code == 0
    write_prompts(tmp_path / "answers.jsonl", ({**row, "response": "Less."} for row in _lines(prompts)))
    done = prefgen(
        "evaluate", prompts, "--model", "scripted/writer", "--baseline", tmp_path / "answers.jsonl",
        "--judge", "scripted/hasty", "--trained-on", tmp_path / "run", "--out", tmp_path / "evaluation",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [(use.kind, use.path, use.gone) for use in uses(tmp_path / "run")] == [
        ("evaluation", tmp_path / "evaluation", False)
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pairing_and_training_leave_a_record(
    run: Path, tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prefgen("pair", run, "--out", tmp_path / "paired").code == 0

    def stage(config: DPOConfig, on_log: object) -> Path:
        return trained(
            config.out, run, config=config.model_dump(mode="json"), settings={}, counts={}, warnings=[],
            steps=1, stopped_early=False, first_loss=None, first_eval=None, last_eval=None,
            frozen_sha256=None, reload={"rows": 0, "max_difference": 0.0}, seconds=0.0, versions={},
        )  # fmt: skip

    monkeypatch.setattr(training, "write_training_report", lambda folder: None)
    config = DPOConfig(model="m", data=run, out=tmp_path / "dpo", watch_prompts=0)
    training.train_stage(stage, config, Console(quiet=True))
    told = [(use.kind, use.path.name, use.gone, use.recorded) for use in uses(run)]
    assert told == [("pair", "paired", False, True), ("training", "dpo", False, True)]
    assert prefgen("pair", run, "--out", tmp_path / "paired", "--overwrite").code == 0
    assert len(uses(run)) == 2


def test_a_loops_round_knows_its_model_and_its_loop(
    tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, rounds=1)
    assert prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--quiet").code == 0
    told = [(use.kind, use.path, use.gone) for use in uses(Path("loop/rounds/1/run"))]
    assert told == [
        ("training", tmp_path / "loop/rounds/1/model", False),
        ("loop", tmp_path / "loop", False),
    ]


def test_the_page_names_its_uses(run: Path, tmp_path: Path, prefgen: Runner) -> None:
    assert used_by(run) == ""
    hostile = trained(tmp_path / HOSTILE.replace("/", " ")[:80], run)
    record_training(run, hostile)
    record(run, "pair", tmp_path / "gone")
    (hostile / "report.html").write_text("")
    assert prefgen("report", run).code == 0
    page = Page((run / "report.html").read_text())
    assert "Used by" in page.words
    (link,) = [value for name, value in page.attributes if name == "href"]
    assert link.startswith("../")
    assert (run / unquote(link)).samefile(hostile / "report.html")
    assert "training (dpo)" in page.words
    assert {"script", "img"}.isdisjoint(page.tags)
    rows = used_by(run)
    assert rows.count("gone</td>") == 1
    assert rows.count("there</td>") == 1
    (run / "dpo" / "train.parquet").write_bytes(b"other rows")
    (run / "kto" / "train.parquet").write_bytes(b"other rows")
    assert "of earlier rows</td>" not in used_by(run), "the test rows are as they were"
    for name in ("dpo", "kto"):
        (run / name / "test.parquet").write_bytes(b"other rows")
    assert "of earlier rows</td>" in used_by(run)

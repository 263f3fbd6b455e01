"""report.html of a training: its numbers, its alarms, and that nothing in it can do harm or reach out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from page import HOSTILE, Page

from pipelines.training_report.page import options_of, training_page, write_training_report
from pipelines.training_report.series import Plot, Series, drawn
from prefgen.errors import InputError
from trainers.alarms import Alarm
from trainers.report import ReloadCheck, TrainingReport

ALARM = Alarm(
    name="length", step=20, good_step=10, seen="answers are long", meaning="Too long.", remedy="Stop."
)


def report(**changes: Any) -> TrainingReport:
    values: dict[str, Any] = {
        "stage": "dpo",
        "config": {
            "model": HOSTILE,
            "data": "runs/first",
            "out": "models/dpo",
            "watch_prompts": 2,
            "lora": True,
        },
        "inputs": {},
        "settings": {"learning_rate": 1e-5},
        "counts": {"train_used": 30, "eval_used": 4, "train_dropped_prompt_too_long": 2},
        "warnings": [HOSTILE],
        "steps": 20,
        "stopped_early": False,
        "kept_step": 10,
        "alarms": [ALARM],
        "stopped_by_alarm": "length",
        "first_loss": 0.7,
        "first_eval": None,
        "last_eval": None,
        "frozen_sha256": "c0ffee",
        "reload": ReloadCheck(rows=3, max_difference=0.0),
        "seconds": 90.0,
        "versions": {"trl": "1.16.0"},
    }
    return TrainingReport.model_validate(values | changes)


def line(step: int, split: str, **numbers: object) -> dict[str, object]:
    return {"step": step, "epoch": 0.0, "split": split, **numbers}


LINES = [
    line(0, "eval", loss=0.7),
    line(0, "watch", length_ratio=1.0, length=10.0, kl=0.0),
    *[line(step, "train", loss=0.7 - step / 100) for step in range(1, 21)],
    line(10, "eval", loss=0.6),
    line(10, "watch", length_ratio=1.1, length=11.0, kl=1.5),
    line(20, "eval", loss=0.5),
    line(20, "watch", length_ratio=1.4, length=14.0, kl=None),
    line(20, "alarm", name="length"),
]
SAMPLES = [
    {"step": step, "prompt": [{"role": "user", "content": "hello"}], "completion": HOSTILE, "held_out": 1.0}
    for step in (0, 10, 20)
]


def test_what_models_wrote_is_shown_and_harmless() -> None:
    page = Page(training_page(report(), LINES, SAMPLES))
    assert not {"script", "img", "iframe", "link", "a"} & set(page.tags)
    assert all(not name.startswith("on") and name not in ("href", "src") for name, _ in page.attributes)
    assert "$title ${style}" in page.words


def test_it_tells_how_the_training_went() -> None:
    page = Page(training_page(report(), LINES, SAMPLES))
    words = page.words
    assert "The alarm ended the training at step 20; the model of step 10 was kept." in words
    assert "Answers grow longer, step 20" in words
    assert "What to do: Stop." in words
    assert "training, dropped: prompt too long 2 rows" in words
    # Before and after are the first evaluation and that of the step that was kept.
    assert "loss 0.7 0.6 −0.1" in words
    assert "tokens of an answer 10 11 +1" in words
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert "Loss: training from 0.69 to 0.5; held out from 0.7 to 0.5" in labels
    assert "Length: ratio from 1 to 1.4; alarm at step 20" in labels
    assert not any("Entropy" in label for label in labels)


def test_a_training_without_alarms_or_watching() -> None:
    quiet = {"alarms": [], "stopped_by_alarm": None, "kept_step": 20, "warnings": []}
    assert "No alarm was raised." in Page(training_page(report(**quiet), LINES, [])).words
    config = {"model": "m", "data": "d", "out": "o", "watch_prompts": 0}
    page = Page(training_page(report(**quiet, config=config), [], []))
    assert "The answers were not watched" in page.words
    assert "svg" not in page.tags


def test_a_line_breaks_where_there_is_no_number() -> None:
    series = Series("loss", [(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, 3.0)])
    svg = drawn(Plot("Loss", "How.", [series], level=(2.0, "level"), marks=[3], kept=4), 4)
    # Steps 0 to 4 lie from 48 to 390; values reach from 0.88 to 3.12 between 190 and 18.
    paths = re.findall(r'class="curve0" d="M([^"]+)"', svg)
    assert [path.count("L") for path in paths] == [1, 1]
    assert paths[0].startswith("48.0 ")
    assert paths[1].endswith("390.0 27.2")
    assert "alarm at step 3" in svg
    assert drawn(Plot("Loss", "How.", [Series("loss", [(0, None)])]), 4) == ""


def test_one_value_that_never_changes_is_drawn(tmp_path: Path) -> None:
    assert "curve0" in drawn(Plot("Loss", "How.", [Series("loss", [(0, 0.0), (1, 0.0)])]), 1)


def test_it_is_written_beside_the_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a complete training run"):
        write_training_report(tmp_path)
    (tmp_path / "training.json").write_text(report().model_dump_json())
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    write_training_report(tmp_path)
    assert "Answers grow longer" in (tmp_path / "report.html").read_text()


def test_an_option_that_is_zero_is_shown() -> None:
    given = {"seed": 0, "warmup": 0.0, "lora": False, "resume_from": None, "data": ["d"], "columns": []}
    assert options_of(given) == {"--seed": "0", "--warmup": "0.0", "--data": "[&#x27;d&#x27;]"}

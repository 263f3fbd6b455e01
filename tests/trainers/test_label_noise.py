from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import pairs, write_jsonl, write_run

from prefgen.errors import InputError, UsageError
from prefgen.records import read_records
from trainers.dpo import DPOConfig, train_dpo, with_noise_rate
from trainers.label_noise import is_calibrated, noise_rate
from trainers.rows import parse_pair


def run(tmp_path: Path, **manifest: object) -> Path:
    folder = write_run(tmp_path / "run", pairs(4), pairs(2))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_noise_is_what_the_calibration_does_not_expect_to_be_right(tmp_path: Path) -> None:
    folder = run(tmp_path, calibration={"threshold": 0.9}, expected_label_precision=0.92)
    for data in (folder, folder / "dpo" / "train.parquet"):
        assert noise_rate(data) == pytest.approx(0.08)
        assert is_calibrated(data)
    config = DPOConfig(model="m", data=folder, out=tmp_path / "out", loss="robust")
    assert with_noise_rate(config).noise_rate == pytest.approx(0.08)
    given = config.model_copy(update={"noise_rate": 0.2})
    assert with_noise_rate(given).noise_rate == 0.2


def test_without_a_calibration_the_rate_has_to_be_given(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "pairs.jsonl", pairs(4))
    for data in (run(tmp_path, calibration=None, expected_label_precision=None), file):
        assert not is_calibrated(data)
        config = DPOConfig(model="m", data=data, out=tmp_path / "out", loss="conservative")
        with pytest.raises(UsageError, match=r"not made with a calibration; give --noise-rate, or calibrate"):
            train_dpo(config)
    assert not (tmp_path / "out").exists()


def test_labels_no_better_than_a_coin_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expects 50% of its labels"):
        noise_rate(run(tmp_path, expected_label_precision=0.5))


@pytest.mark.parametrize("seen", [0.3, 1.2, None, "sure"])
def test_a_confidence_is_a_probability_from_a_half_to_one(seen: object, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{**pairs(1)[0], "confidence": seen}])
    [record] = read_records(path)
    with pytest.raises(InputError, match=r"rows.jsonl:1: a bad confidence"):
        parse_pair(path, record, confidence=True)
    assert parse_pair(path, record).confidence is None

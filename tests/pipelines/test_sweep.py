from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import make_causal_lm

from pipelines.cli import main
from pipelines.sweep_config import SweepConfig
from prefgen.errors import UsageError


def config(tmp_path: Path, **options: object) -> SweepConfig:
    values = {"model": "m", "data": tmp_path / "d.jsonl", "out": tmp_path / "out", **options}
    return SweepConfig.model_validate(values)


def test_a_stage_has_one_beta_a_folder_and_the_options_given(tmp_path: Path) -> None:
    sweep = config(tmp_path, sweep_beta=(0.3, 0.03, 0.3), loss="soft", max_steps=5, resume=True)
    assert sweep.betas == [0.03, 0.3]
    stage = sweep.stage(0.03)
    assert (stage.beta, stage.out, stage.loss, stage.max_steps) == (
        0.03,
        tmp_path / "out" / "beta-0.03",
        "soft",
        5,
    )
    assert not stage.resume
    assert "max_length" not in stage.model_fields_set
    stage.out.mkdir(parents=True)
    assert sweep.stage(0.03).resume


@pytest.mark.parametrize("betas", [(), (0.1,), (0.1, 0.1), (0.1, 0.0)])
def test_fewer_than_two_betas_are_no_sweep(betas: tuple[float, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sweep-beta"):
        config(tmp_path, sweep_beta=betas)


@pytest.mark.train
def test_a_sweep_trains_measures_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_causal_lm(tmp_path / "model")
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Order {n}?", "chosen": "a refund", "rejected": f"no {n}"} for n in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        "train",
        "dpo-sweep",
        "--model",
        str(model),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
    ]
    command += ["--eval-share", "0.2", "--max-steps", "3", "--eval-steps", "3", "--learning-rate", "1e-3"]
    command += ["--sweep-beta", "0.05", "--sweep-beta", "0.5", "--sweep-tokens", "6", "--as-chat", "--json"]
    command += ["--allow-base-model", "--watch-prompts", "0"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out" / "sweep.json").read_text()) == result
    assert (result["n_prompts"], result["judge"]) == (4, None)
    assert "no win rate" in result["note"]
    low, high = result["betas"]
    assert (low["beta"], high["beta"]) == (0.05, 0.5)
    for entry in (low, high):
        report = json.loads((Path(entry["folder"]) / "training.json").read_text())
        assert report["config"]["beta"] == entry["beta"]
        assert entry["margin"] == report["last_eval"]["rewards/margins"]
        assert entry["margin_nats"] == pytest.approx(entry["margin"] / entry["beta"])
        assert entry["kl"] > 0
        assert entry["win_rate"] is None
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "--resume" in capsys.readouterr().err
    (tmp_path / "out" / "sweep.json").unlink()
    with pytest.raises(SystemExit) as ended:
        main([*command, "--resume", "--judge", "scripted/judge"])
    assert ended.value.code == 0
    again = json.loads(capsys.readouterr().out)
    assert again["judge"] == "scripted/judge"
    for before, after in zip(result["betas"], again["betas"], strict=True):
        assert 0 <= after["win_rate"] <= 100
        assert after["win_rate_ci"][0] <= after["win_rate"] <= after["win_rate_ci"][1]
        assert {**after, "win_rate": None, "win_rate_ci": None} == before

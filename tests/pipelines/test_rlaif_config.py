"""The file of a loop: what is refused, with its line, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from looping import install, write_config
from running import Runner

from pipelines.rlaif.config import read_config
from pipelines.rlaif.inputs import look_over, models_of
from prefgen.assets import asset
from prefgen.errors import InputError, UsageError


def test_the_shipped_config_is_a_loop_on_the_embedded_models(tmp_path: Path) -> None:
    config = read_config(asset("quickstart") / "rlaif.yaml", tmp_path / "loop")
    inputs = look_over(config)
    assert len(inputs.asked) == 240
    assert [Path(spec.partition("/")[2]).name for spec in models_of(config)] == ["policy", "judge", "reward"]
    assert all(Path(spec.partition("/")[2]).is_dir() for spec in models_of(config))
    assert config.evaluate.concurrency == config.generate.concurrency == 256
    assert not (tmp_path / "loop").exists()


def line_of(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if line.strip().startswith(text))


@pytest.mark.parametrize(
    ("changes", "at", "parts"),
    [
        ({"round": 3}, "round:", ["unknown field 'round'", "did you mean 'rounds'"]),
        ({"rounds": 0}, "rounds:", ["rounds: Input should be greater"]),
        (
            {"generate": {"temprature": 1}},
            "temprature:",
            ["unknown field 'generate.temprature'", "did you mean 'temperature'"],
        ),
        ({"generate": {"n": 1}}, "generate:", ["a pair needs two candidates"]),
        ({"generate": {"policy": "vllm/x"}}, "policy: vllm/x", ["generate.policy", "top of the file"]),
        ({"generate": {"format": "standard"}}, "format:", ["a loop trains on messages"]),
        ({"evaluate": {"concurrency": 3}}, "concurrency: 3", ["evaluate.concurrency", "set in generate"]),
        ({"evaluate": {"judges": "scripted/long"}}, "judges:", ["did you mean 'judge'"]),
        ({"train": {"stage": "dpp"}}, "stage:", ["train.stage", "expected dpo, kto", "dpp"]),
        ({"train": {"betta": 1}}, "betta:", ["unknown field 'train.betta'", "did you mean 'beta'"]),
        ({"train": {"beta": -1}}, "beta:", ["train.beta", "greater than 0"]),
        ({"train": {"noise_rate": 0.1, "loss": "ipo"}}, "train:", ["belongs to the losses robust"]),
        ({"train": {"model": "x"}}, "model:", ["train.model", "the loop sets this by itself"]),
        ({"train": {"reward": "judge"}}, "reward:", ["dpo learns from pairs"]),
        ({"train": {"stage": "ppo", "reward": "judge"}}, "reward:", ["this stage samples one"]),
        ({"train": {"loss": "robust"}}, "loss:", ["add train.noise_rate"]),
        ({"train": {"accelerate": "ddp"}}, "accelerate:", ["the loop sets this by itself"]),
        ({"train": {"watch_judge": "scripted/six"}}, "watch_judge:", ["the loop sets this by itself"]),
        ({"stop": {"on_alarm": "halt"}}, "on_alarm:", ["stop.on_alarm", "'stop' or 'warn'"]),
        ({"sft": {"epochs": 2}}, "rlaif.yaml", ["go with recipe: constitutional"]),
        ({"reward_training": {"epochs": 2}}, "reward_training:", ["reward: trained"]),
        ({"given_pairs": {"file": "g.jsonl"}}, "given_pairs:", ["given_pairs.share"]),
        ({"policy": "openai/gpt"}, "rlaif.yaml", ["not a model in a local folder"]),
    ],
)
def test_a_fault_is_told_with_its_line(
    changes: dict[str, Any], at: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    path = write_config(tmp_path, **changes)
    with pytest.raises(InputError) as error:
        look_over(read_config(path, tmp_path / "loop"))
    told = str(error.value)
    assert all(part in told for part in parts), told
    if at != "rlaif.yaml":
        assert told.startswith(f"{path}:{line_of(path, at)}: "), told


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_config(tmp_path / "home", out="loops/first", generate={"judge": "vllm/some/model"})
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = read_config(Path("../home/rlaif.yaml"), None)
    home = Path("../home")
    assert config.out == home / "loops/first"
    assert config.policy == "transformers/../home/policy"
    assert config.generate.prompts == home / "prompts.jsonl"
    assert config.evaluate.prompts == home / "heldout.jsonl"
    assert config.generate.ledger == config.evaluate.ledger == home / "ledger.sqlite"
    assert config.generate.judge == ("vllm/some/model",)  # No such folder: a model of the hub.
    assert read_config(Path("../home/rlaif.yaml"), Path("mine")).out == Path("mine")


def test_without_a_directory_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --out DIR"):
        read_config(write_config(tmp_path), None)


def test_held_out_prompts_must_be_held_out(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    (tmp_path / "heldout.jsonl").write_text((tmp_path / "prompts.jsonl").read_text())
    with pytest.raises(InputError, match="8 held-out prompts are trained on"):
        look_over(read_config(path, tmp_path / "loop"))


def test_what_is_read_must_not_lie_in_the_loop(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    with pytest.raises(UsageError, match="name another directory"):
        look_over(read_config(path, tmp_path))


def test_a_fault_leaves_nothing_behind(prefgen: Runner, tmp_path: Path) -> None:
    path = write_config(tmp_path, train={"betta": 1})
    assert prefgen("rlaif", path, "--out", tmp_path / "loop").code == 2
    assert not (tmp_path / "loop").exists()


def test_every_option_of_the_page_is_one(tmp_path: Path) -> None:
    """The config that docs/rlaif.md shows is the shipped one."""
    page = (Path(__file__).parents[2] / "docs" / "rlaif.md").read_text()
    shown = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert shown == yaml.safe_load((asset("quickstart") / "rlaif.yaml").read_text())

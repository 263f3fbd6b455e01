"""`prefgen init`: what it writes is parsed and run as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import Runner, files

from pipelines.calibration.config import CalibrateConfig
from pipelines.generate_config import GenerateConfig
from pipelines.init import COMMANDS
from pipelines.rlaif.config import read_config
from prefgen.yamlfile import read_yaml


@pytest.fixture
def home(prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert prefgen("init", "first").code == 0
    monkeypatch.chdir(tmp_path / "first")
    return tmp_path / "first"


def test_it_says_what_it_wrote_and_what_to_type(prefgen: Runner, tmp_path: Path) -> None:
    told = prefgen("init", tmp_path / "a b").out
    assert f"cd '{tmp_path}/a b'" in told
    for command in COMMANDS.values():
        assert f"\n  {command}" in told
    result = prefgen("init", tmp_path / "second", "--json").result
    assert result["commands"] == COMMANDS
    assert {name.partition("/")[0] for name in files(tmp_path / "second")} == set(result["files"])


def test_it_writes_over_nothing_unless_told(prefgen: Runner, tmp_path: Path) -> None:
    (tmp_path / "generate.yaml").write_text("mine")
    (tmp_path / "notes").write_text("mine too")
    refused = prefgen("init", tmp_path)
    assert refused.code == 2
    assert "holds generate.yaml already" in refused.err
    assert files(tmp_path) == {"generate.yaml", "notes"}
    assert prefgen("init", tmp_path, "--overwrite").code == 0
    assert (tmp_path / "generate.yaml").read_text() != "mine"
    assert (tmp_path / "notes").read_text() == "mine too"
    assert "notes is a file" in prefgen("init", tmp_path / "notes").err
    assert "cannot be written" in prefgen("init", tmp_path / "notes" / "x").err
    (tmp_path / "third" / "labels.jsonl").mkdir(parents=True)
    said = prefgen("init", tmp_path / "third", "--overwrite").err
    assert "labels.jsonl: cannot be written (Is a directory); name another place" in said
    assert not (tmp_path / "third" / "labels.jsonl.part").exists()


def test_links_are_not_followed(prefgen: Runner, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "config.json").write_text("mine")
    home = tmp_path / "home"
    (home / "tiny-policy").mkdir(parents=True)
    for name in ("generate.yaml", "tiny-policy/config.json"):
        (home / name).symlink_to(tmp_path / "models" / "config.json")
    assert prefgen("init", home, "--overwrite").code == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tiny-policy").symlink_to(tmp_path / "models")
    refused = prefgen("init", tmp_path / "other", "--overwrite")
    assert refused.code == 2
    assert "is a link to another folder" in refused.err
    assert {name: (tmp_path / "models" / name).read_text() for name in files(tmp_path / "models")} == {
        "config.json": "mine"
    }


def test_the_configs_parse_and_their_comments_name_options_that_exist(home: Path) -> None:
    for kind, name in ((GenerateConfig, "generate.yaml"), (CalibrateConfig, "calibrate.yaml")):
        kind.model_validate(_listed(read_yaml(home / name)))
        text = (home / name).read_text()
        commented = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
        options = {
            line.partition(":")[0].strip()
            for line in commented
            if ": " in line and " " not in line.partition(":")[0]
        }
        assert options
        assert options <= kind.model_fields.keys()
    assert read_config(home / "rlaif.yaml", None).out == home / "loops/first"


def _listed(values: dict[str, object]) -> dict[str, object]:
    return values | {name: [values[name]] for name in ("policy", "judge") if name in values}


def test_generate_and_calibrate_run_as_they_stand(prefgen: Runner, home: Path) -> None:
    made = prefgen(*COMMANDS["generate"].split()[1:], "--json").result
    assert made["counts"]["prompts"] == 24
    assert made["counts"]["pairs"] >= 20
    told = prefgen(*COMMANDS["calibrate"].split()[1:]).out
    assert "90% label precision" in told
    # And the one goes into the other, as a comment says.
    calibration = "calibrations/first/calibration.json"
    again = prefgen(
        "generate", "--config", "generate.yaml", "--calibration", calibration,
        "--target-precision", 0.9, "--out", "runs/second", "--json",
    ).result  # fmt: skip
    assert again["expected_label_precision"] is not None


@pytest.mark.train
def test_the_loop_runs_as_it_stands(prefgen: Runner, home: Path) -> None:
    ran = prefgen(*COMMANDS["rlaif"].split()[1:], "--json")
    assert ran.code == 0, ran.err
    assert len(ran.result["rounds"]) == 1
    assert json.loads((home / "loops/first/best.json").read_text())

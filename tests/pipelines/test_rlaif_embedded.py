"""The shipped loop on the embedded models, made small: real vLLM, real training."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
import yaml
from running import Runner, rows

from prefgen.assets import asset
from prefgen.yamlfile import read_yaml


def small_home(folder: Path) -> Path:
    """The embedded loop with its real models and few prompts."""
    embedded = asset("quickstart")
    shutil.copytree(embedded / "models", folder / "models")
    for name, lines in {"prompts.jsonl": 24, "heldout_prompts.jsonl": 10}.items():
        with (embedded / name).open() as file:
            (folder / name).write_text("".join(islice(file, lines)))
    for name in ("constitution.yaml", "judge.txt"):
        shutil.copy(embedded / name, folder / name)
    config = read_yaml(embedded / "rlaif.yaml")
    config["prompts_per_round"] = 12
    # Which of its replies fool the tiny judge depends on rounding in vLLM, so none is planted.
    config["generate"] |= {"n": 4, "min_confidence": 0.75, "planted": 0}
    config["train"] |= {"max_steps": 3, "eval_steps": 3}
    config["stop"] = {"length_ratio": None, "no_gain_rounds": None}
    (folder / "rlaif.yaml").write_text(yaml.safe_dump(config))
    return folder / "rlaif.yaml"


@pytest.mark.vllm
@pytest.mark.train
@pytest.mark.timeout(900)
def test_two_rounds_with_weights_loaded_into_the_running_engine(prefgen: Runner, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    path, out = small_home(tmp_path / "home"), tmp_path / "loop"
    ran = prefgen("rlaif", path, "--out", out, "--json")
    assert ran.code == 0, ran.err
    first, second = ran.result["rounds"]
    # The policy's engine is started once, and each round's weights go into it.
    assert [item["policy"]["after"]["loaded"] for item in (first, second)] == ["reloaded", "reloaded"]
    assert ran.err.count("starting vllm/") == 3
    identities = [
        item["policy"][when]["identity"] for item in (first, second) for when in ("before", "after")
    ]
    assert identities[1] == identities[2]
    assert len(set(identities)) == 3
    for item in (first, second):
        number = item["round"]
        assert item["evaluation"]["n"] == 10
        assert item["training"]["steps"] == 3
        manifest = json.loads((out / f"rounds/{number}/run/manifest.json").read_text())
        assert manifest["models"]["policy"]["identity"] == item["policy"]["before"]["identity"]
        assert manifest["counts"]["prompts"] == 12
    wrote = {row["chosen_policy"] for row in rows(out / "lineage.parquet") if row["round"] == 2}
    assert wrote == {f"vllm/{out}/rounds/1/model"}

"""The whole job on real vLLM and real training, made small: every step, few prompts."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset

from pipelines.console import Console
from pipelines.quickstart import load_results, quickstart, quickstart_summary, rubric_result
from prefgen.assets import asset
from prefgen.candidate import Candidate
from prefgen.errors import RunDirectoryError
from prefgen.messages import user
from prefgen.prompt import Prompt
from prefgen.yamlfile import read_yaml

GOOD = "Hi Ada! I am so sorry. I replace your lamp from order B31 and it comes on Monday."


def prompt(name: str) -> Prompt:
    return Prompt(name, user("…"), {"intent": "broken", "name": "Ada", "product": "lamp", "order": "B31"})


def candidates(*texts: str) -> list[Candidate]:
    return [Candidate(str(n), text, "test/model", 0) for n, text in enumerate(texts)]


def test_rubric_result_of_three_prompts() -> None:
    prompts = [prompt(str(n)) for n in range(3)]
    found = rubric_result(prompts, candidates(GOOD, GOOD, "No."), candidates("No.", GOOD, GOOD))
    # One win, one draw, one loss.
    assert (found["n"], found["win_rate"]) == (3, 50.0)
    assert found["pass_rate_before"] == found["pass_rate_after"] == pytest.approx(200 / 3)


def test_prompts_without_both_answers_are_left_out() -> None:
    found = rubric_result([prompt("0"), prompt("1")], [*candidates(GOOD), None], candidates("No.", GOOD))
    assert (found["n"], found["win_rate"]) == (1, 100.0)


async def test_a_used_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="--overwrite"):
        await quickstart(tmp_path, Console(quiet=True))


def small_home(folder: Path) -> Path:
    """The embedded default with its real models and few prompts."""
    embedded = asset("quickstart")
    shutil.copytree(embedded / "models", folder / "models")
    for name, lines in {"prompts.jsonl": 40, "heldout_prompts.jsonl": 12, "labels.jsonl": 60}.items():
        with (embedded / name).open() as file:
            (folder / name).write_text("".join(islice(file, lines)))
    for name in ("constitution.yaml", "judge.txt"):
        shutil.copy(embedded / name, folder / name)
    config = read_yaml(embedded / "config.yaml")
    # Rounding in vLLM depends on what else the machine does, and so does which of its replies fool the judge.
    config["generate"]["planted"] = 0
    for stage in ("dpo", "kto", "grpo", "ppo"):
        config[stage] |= {"max_steps": 2, "eval_steps": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.vllm
@pytest.mark.train
@pytest.mark.timeout(600)
async def test_whole_and_again(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    home, out = small_home(tmp_path / "home"), tmp_path / "out"
    stages = ("dpo", "ppo")  # One that learns from pairs, and one from rewards.
    results = await quickstart(out, Console(quiet=True), stages=stages, home=home)
    assert results == load_results(out)
    assert results["counts"]["prompts"] == 40
    assert results["counts"]["pairs"] > 20
    assert results["counts"]["failures"] == {}
    assert results["judge"]["agreement"] > 0.6
    for stage in stages:
        assert results["rubric"]["stages"][stage]["n"] == 12
        assert results["evaluation"]["stages"][stage]["n"] == 12
        assert (out / "models" / stage / "training.json").exists()
    assert set(load_dataset(str(out / "run"), "dpo")) == {"train", "test"}
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert set(samples[0]) == {"id", "prompt", "sft", *stages}
    assert "try next" in quickstart_summary(results)
    # A finished quickstart is told again, not run again.
    again = await quickstart(out, Console(quiet=True), stages=stages, home=home, resume=True)
    assert again == results

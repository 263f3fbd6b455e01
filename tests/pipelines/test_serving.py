"""What is trained is what is served: a trained policy and a trained reward head in vLLM and transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import Runner
from tiny_models import make_causal_lm

from pipelines.serving import check_served, largest_difference
from prefgen.errors import GateError

SHORT = (
    "--max-steps", 2, "--batch-size", 2, "--max-length", 128, "--learning-rate", 1e-3, "--json", "--quiet",
    "--allow-base-model", "--watch-prompts", 2, "--watch-tokens", 8,
)  # fmt: skip


def pairs(path: Path) -> Path:
    rows = [{"prompt": f"say {n}", "chosen": f"A {n}", "rejected": f"B {n}"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_largest_difference_is_over_what_both_have() -> None:
    assert largest_difference([{"A": -1.0, "B": -2.0}], [{"A": -1.5, "C": 0.0}]) == 0.5
    with pytest.raises(GateError):
        largest_difference([{"A": -1.0}], [{"B": -1.0}])


@pytest.mark.train
def test_train_command_says_what_it_did(tmp_path: Path, prefgen: Runner) -> None:
    base, out = make_causal_lm(tmp_path / "base"), tmp_path / "dpo"
    data = pairs(tmp_path / "pairs.jsonl")
    done = prefgen("train", "dpo", "--model", base, "--data", data, "--out", out, "--as-chat", *SHORT)
    assert done.code == 0, done.err
    assert (done.result["stage"], done.result["steps"]) == ("dpo", 2)
    refused = prefgen("train", "dpo", "--model", base, "--data", data, "--out", out, "--as-chat", *SHORT)
    assert refused.code == 2
    assert "--overwrite" in refused.err


@pytest.mark.train
def test_a_judge_watches_a_training(tmp_path: Path, prefgen: Runner) -> None:
    base, out = make_causal_lm(tmp_path / "base"), tmp_path / "dpo"
    data = pairs(tmp_path / "pairs.jsonl")
    watched = ("--watch-judge", "scripted/judge", "--eval-share", 0.3)
    done = prefgen(
        "train", "dpo", "--model", base, "--data", data, "--out", out, "--as-chat", *SHORT, *watched
    )
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    looks = [line for line in lines if line["split"] == "watch"]
    assert [(line["step"], line["held_out_scored"]) for line in looks] == [(0, 2), (1, 2), (2, 2)]
    assert looks[0]["held_out"] == 0
    (out / "report.html").unlink()
    again = prefgen("report", out, "--json")
    assert again.result == done.result
    assert "Held-out judge" in (out / "report.html").read_text()


def test_train_command_refuses_a_bad_value(tmp_path: Path, prefgen: Runner) -> None:
    data = pairs(tmp_path / "pairs.jsonl")
    refused = prefgen("train", "kto", "--model", "m", "--data", data, "--out", tmp_path / "o", "--beta", -1)
    assert (refused.code, "--beta" in refused.err) == (2, True)
    refused = prefgen(
        "train", "kto", "--model", "m", "--data", data, "--out", tmp_path / "o", "--batch-size", 1
    )
    assert (refused.code, "--batch-size 2" in refused.err) == (2, True)


@pytest.mark.vllm
@pytest.mark.train
def test_a_merged_adapter_is_served_as_trained(tmp_path: Path, prefgen: Runner) -> None:
    base, out = make_causal_lm(tmp_path / "base"), tmp_path / "dpo"
    data = pairs(tmp_path / "pairs.jsonl")
    done = prefgen(
        "train", "dpo", "--model", base, "--data", data, "--out", out, "--as-chat", "--lora", "--merge",
        "--check-vllm", *SHORT,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.result["vllm"]["max_difference"] < 1e-2


@pytest.mark.vllm
@pytest.mark.train
def test_a_reward_head_is_served_as_trained(tmp_path: Path, prefgen: Runner) -> None:
    base, out = make_causal_lm(tmp_path / "base"), tmp_path / "reward"
    data = pairs(tmp_path / "pairs.jsonl")
    done = prefgen("train", "reward", "--model", base, "--data", data, "--out", out, "--as-chat", *SHORT)
    assert done.code == 0, done.err
    assert check_served(out, reward=True)["max_difference"] < 1e-2

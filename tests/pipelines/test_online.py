"""`prefgen train grpo` from the command line: judges and rules, their cost, and what is refused."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Ran, Runner
from tiny_models import make_causal_lm

from pipelines.options import build
from pipelines.rewards_config import RewardsConfig, check_group
from prefgen.errors import UsageError
from trainers.grpo import GRPOConfig

SHORT = (
    "--max-steps", 2, "--batch-size", 4, "--gradient-accumulation", 2, "--group-size", 4,
    "--max-new-tokens", 5, "--learning-rate", 1e-3, "--no-gradient-checkpointing", "--eval-share", 0,
    "--json", "--quiet",
)  # fmt: skip
JUDGE = ("--judge", "scripted/judge")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_causal_lm(tmp_path_factory.mktemp("grpo") / "model")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"prompt": f"what is {n} and {n}", "answer": 2 * n} for n in range(6)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def grpo(prefgen: Runner, model: Path, prompts: Path, out: Path, *more: object) -> Ran:
    return prefgen("train", "grpo", "--model", model, "--data", prompts, "--out", out, *SHORT, *more)


def answers(ledger: Path) -> int:
    with sqlite3.connect(ledger) as connection:
        names = [
            name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        ]
        return sum(connection.execute(f"select count(*) from {name}").fetchone()[0] for name in names)


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "rewards.json").read_text())
    return found


@pytest.mark.train
def test_a_judge_and_rules_reward_together(
    model: Path, prompts: Path, tmp_path: Path, prefgen: Runner
) -> None:
    out = tmp_path / "out"
    done = grpo(
        prefgen, model, prompts, out, *JUDGE, "--reward-function", "length:1-9", "--reward-function",
        "accuracy:answer", "--reward-weight", "length=0.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (done.result["stage"], done.result["steps"]) == ("grpo", 2)
    told = report(out)
    assert {name: entry["weight"] for name, entry in told["rewards"].items()} == {
        "judge": 1,
        "length": 0.5,
        "accuracy": 1,
    }
    assert (told["rewards"]["judge"]["asked"], told["rewards"]["judge"]["failed"]) == (16, 0)
    assert told["usage"]["requests"] > 0
    assert told["models"]["judge"]["spec"] == "scripted/judge"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["split"] == "train")
    parts = [first[f"rewards/{name}/mean"] for name in ("judge", "length", "accuracy")]
    assert first["reward"] == pytest.approx(parts[0] + 0.5 * parts[1] + parts[2], abs=1e-4)

    refused = grpo(prefgen, model, prompts, out, *JUDGE, "--resume")
    assert (refused.code, "begun differently" in refused.err) == (2, True)


@pytest.mark.train
def test_a_run_out_of_budget_is_resumed_and_nothing_is_judged_twice(
    model: Path, prompts: Path, tmp_path: Path, prefgen: Runner
) -> None:
    def run(name: str, *more: object) -> Ran:
        ledger = tmp_path / f"{name}.sqlite"
        return grpo(
            prefgen, model, prompts, tmp_path / name, *JUDGE, "--max-steps", 3, "--save-steps", 1,
            "--ledger", ledger, *more,
        )  # fmt: skip

    assert run("whole").code == 0
    needed = report(tmp_path / "whole")["usage"]["requests"]
    stopped = run("cut", "--max-requests", needed // 2)
    assert stopped.code == 4, stopped.err
    assert not (tmp_path / "cut" / "training.json").exists()
    resumed = run("cut", "--resume")
    assert resumed.code == 0, resumed.err
    assert report(tmp_path / "cut")["usage"]["requests"] == needed - needed // 2
    assert answers(tmp_path / "cut.sqlite") == answers(tmp_path / "whole.sqlite")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing rewards"),
        ([*JUDGE, "--reward-model", "transformers/m"], "exactly one of"),
        ([*JUDGE, "--reward-weight", "tone=2"], "NAME judge"),
        ([*JUDGE, "--reward-weight", "judge=lots"], "NAME judge"),
        (["--reward-function", "tone:kind"], "expected format:REGEX"),
        (["--reward-function", "accuracy:solution"], "no value in the column solution"),
        ([*JUDGE, "--judging", "listwise", "--group-size", 80], "--judging listwise ranks at most"),
        (["--reward-model", "transformers/m", "--reward-ensemble", "worst"], "no ensemble of reward models"),
        ([*JUDGE, "--reward-ensemble", "worst"], "goes with --reward-model"),
        ([*JUDGE, "--max-new-tokens", 1024], "leave no room for a prompt"),
        ([*JUDGE, "--rollouts", "vllm"], "needs a CUDA device"),
    ],
    ids=lambda value: " ".join(map(str, value))[-40:] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_before_anything_is_written(
    given: list[object], message: str, model: Path, prompts: Path, tmp_path: Path, prefgen: Runner
) -> None:
    refused = grpo(prefgen, model, prompts, tmp_path / "out", *given)
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err
    assert not (tmp_path / "out").exists()


def test_a_stage_with_one_response_a_prompt_takes_no_comparing_judge() -> None:
    compares = RewardsConfig(judge=("scripted/judge",), judging="pairwise")
    check_group(compares, 8)
    with pytest.raises(UsageError, match="this stage samples one"):
        check_group(compares, 1)
    check_group(RewardsConfig(judge=("scripted/judge",)), 1)


def test_the_second_rule_of_a_kind_has_a_name_of_its_own() -> None:
    config = RewardsConfig(
        reward_function=("format:a", "length:1-2", "format:b"), reward_weight=("format_2=3",)
    )
    assert config.weights == {"format": 1, "length": 1, "format_2": 3}


def test_the_options_of_stage_and_rewards_do_not_collide() -> None:
    assert GRPOConfig.model_fields.keys() & RewardsConfig.model_fields.keys() == {"seed"}


def test_one_file_holds_the_options_of_both(tmp_path: Path) -> None:
    path = tmp_path / "grpo.yaml"
    values = {"group_size": 4, "judge": "scripted/judge", "seed": 7, "reward-weight": "judge=2"}
    path.write_text(yaml.safe_dump(values))
    given = {"model": "m", "data": "d", "out": "o", "beta": 0.1, "config": path}
    stage = build(GRPOConfig, given, RewardsConfig)
    rewards = build(RewardsConfig, given, GRPOConfig)
    assert (stage.group_size, stage.seed, stage.beta) == (4, 7, 0.1)
    assert (rewards.judge, rewards.seed, rewards.weights) == (("scripted/judge",), 7, {"judge": 2.0})

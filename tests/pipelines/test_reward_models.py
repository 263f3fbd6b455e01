"""An ensemble of reward models: trained, measured, resumed, and used where a reward model is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import FAKES, Runner, some_prompts
from tiny_models import make_causal_lm

from pipelines.reward_models import RewardModelConfig, train_reward_models
from prefgen.errors import RunDirectoryError

pytestmark = pytest.mark.train


class KilledError(Exception):
    pass


def config(tmp_path: Path, **options: object) -> RewardModelConfig:
    data = tmp_path / "pairs.jsonl"
    if not data.exists():
        make_causal_lm(tmp_path / "base")
        rows = [{"prompt": f"say {n}", "chosen": "A " * (1 + n % 3), "rejected": f"B {n}"} for n in range(24)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "model": str(tmp_path / "base"), "data": data, "out": tmp_path / "out", "as_chat": True, "members": 2,
        "max_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "eval_share": 0.25, "max_length": 64,
        "gradient_checkpointing": False,
    }  # fmt: skip
    return RewardModelConfig.model_validate(values | options)


def test_an_ensemble_is_resumed_measured_and_used(tmp_path: Path, prefgen: Runner) -> None:
    seen = 0

    def kill(numbers: dict[str, float]) -> None:
        nonlocal seen
        seen += "train_runtime" in numbers
        if seen == 2:
            raise KilledError

    out = tmp_path / "out"
    with pytest.raises(KilledError):
        train_reward_models(config(tmp_path), kill)
    first = (out / "member-1" / "model.safetensors").read_bytes()
    assert not (out / "ensemble.json").exists()
    with pytest.raises(RunDirectoryError, match="members was 2, is 3"):
        train_reward_models(config(tmp_path, members=3, resume=True))
    assert train_reward_models(config(tmp_path, resume=True)) == out
    assert (out / "member-1" / "model.safetensors").read_bytes() == first

    told = json.loads((out / "ensemble.json").read_text())
    # A quarter of 24 prompts is held out: 6 pairs, too few to put members on one scale.
    assert told["scale_from"] == "training"
    assert [(item["path"], item["seed"], item["n"]) for item in told["members"]] == [
        ("member-1", 42, 36),
        ("member-2", 43, 36),
    ]
    found = json.loads((out / "heldout.json").read_text())
    assert {name for name in found if name != "members"} == {"mean", "worst", "uncertainty"}
    assert [item["n"] for item in found["members"]] == [6, 6]

    prompts = some_prompts(tmp_path / "prompts.jsonl", 4)
    scores = []
    for mode in ("mean", "worst"):
        run = tmp_path / mode
        done = prefgen(
            "generate", prompts, *FAKES[:2], "--reward-model", f"transformers/{out}",
            "--reward-ensemble", mode, "--n", 2, "--planted", 0, "--out", run, "--min-confidence", 0.5,
            "--json", "--quiet",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert done.result["models"]["reward_model"]["served"].startswith(f"ensemble:{mode}:")
        # Scores of the other mode do not stand in for these.
        assert done.result["usage"]["cached_requests"] == (0 if mode == "mean" else 4)
        scores.append(done.result["usage"]["requests"])
    assert scores[0] > scores[1] > 0

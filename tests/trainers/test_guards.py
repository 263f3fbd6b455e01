"""What is refused and what is warned of before a training starts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny import TEMPLATE, make_model, pairs, write_jsonl

from prefgen.errors import UsageError
from trainers.config import StageConfig
from trainers.dpo import DPOConfig, train_dpo
from trainers.guards import (
    base_model_fault,
    check_epochs,
    check_judge,
    check_rate,
    judges_of,
    planned_epochs,
    start_loss,
)
from trainers.reward import RewardConfig
from trainers.rows import Row
from trainers.run import run_stage


def config(**options: Any) -> StageConfig:
    return StageConfig.model_validate({"model": "m", "data": "d", "out": "o"} | options)


@pytest.mark.parametrize(
    ("template", "loss", "vocabulary", "fault"),
    [
        (TEMPLATE, 1.5, 32_000, None),
        (TEMPLATE, None, 32_000, None),
        # ln 32000 / 2 = 5.19, so 4 is the limit; ln 400 / 2 = 2.996.
        (TEMPLATE, 4.01, 32_000, "4.01 nats a token, and 4.00 is the limit"),
        (TEMPLATE, 3.01, 400, "and 3.00 is the limit"),
        (TEMPLATE, 2.98, 400, None),
        (None, 1.5, 32_000, "no chat template"),
    ],
)
def test_a_base_model_is_told_by_its_template_and_its_loss(
    template: str | None, loss: float | None, vocabulary: int, fault: str | None
) -> None:
    found = base_model_fault(template, loss, vocabulary)
    assert found is None if fault is None else fault in (found or "")


@pytest.mark.train
def test_the_loss_of_the_start_is_that_of_its_good_responses(model: Path, tokenizer: Any) -> None:
    """Weights of nothing but zeros guess at random: ln 400 for each token."""
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(model)
    for weight in policy.parameters():
        weight.data *= 0
    rows = [Row(Path("f"), 1, "the sky", (" is blue",)), Row(Path("f"), 2, "rain", (" green",), label=False)]
    assert start_loss(config(), policy, tokenizer, rows) == pytest.approx(math.log(400), abs=1e-4)
    assert start_loss(config(), policy, tokenizer, rows[1:]) is None
    assert start_loss(config(), policy, tokenizer, [Row(Path("f"), 1, "the sky", ())]) is None


@pytest.mark.train
def test_a_raw_base_model_is_refused_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", pairs(8))
    plain = [{name: f"{name} {n}" for name in ("prompt", "chosen", "rejected")} for n in range(8)]
    out = tmp_path / "out"
    common = {"data": data, "out": out, "max_steps": 1, "batch_size": 4, "watch_prompts": 0}
    with pytest.raises(UsageError, match=r"nats a token.*--allow-base-model"):
        train_dpo(DPOConfig.model_validate(common | {"model": str(model)}))
    bare = make_model(tmp_path / "bare", template=None)
    strings = {"model": str(bare), "data": write_jsonl(tmp_path / "plain.jsonl", plain)}
    with pytest.raises(UsageError, match=r"no chat template.*prefgen train sft"):
        train_dpo(DPOConfig.model_validate(common | strings))
    assert not out.exists()
    train_dpo(DPOConfig.model_validate(common | strings | {"allow_base_model": True}))


@pytest.mark.parametrize(
    ("stage", "rate", "adapter", "weights", "warned"),
    [
        ("dpo", 5e-7, False, 8_000_000_000, False),
        ("dpo", 1e-4, False, 8_000_000_000, True),
        ("dpo", 1e-8, False, 8_000_000_000, True),
        ("dpo", 2e-5, True, 8_000_000_000, False),
        ("sft", 1e-3, False, 8_000_000_000, True),
        ("sft", 2e-4, True, 8_000_000_000, False),
        ("dpo", 1e-2, False, 5_000_000, False),
        ("another", 1.0, False, 8_000_000_000, False),
    ],
)
def test_unusual_learning_rates(stage: str, rate: float, adapter: bool, weights: int, warned: bool) -> None:
    assert (check_rate(stage, rate, adapter, weights) is not None) == warned


def test_the_defaults_of_the_stages_are_usual() -> None:
    from trainers.guards import USUAL_RATES
    from trainers.kto import KTOConfig
    from trainers.sft import SFTConfig

    for name, kind in (("sft", SFTConfig), ("reward", RewardConfig), ("dpo", DPOConfig), ("kto", KTOConfig)):
        for adapter, rate in ((False, kind.full_rate), (True, kind.lora_rate)):
            low, high = USUAL_RATES[name].usual(adapter)
            assert low < rate < high


def test_many_epochs() -> None:
    assert "3 passes" in (check_epochs("dpo", 3) or "")
    assert check_epochs("dpo", 2) is None
    assert check_epochs("sft", 9) is None
    assert planned_epochs(config(epochs=3), 100) == 3
    # 50 steps of 4 · 2 rows are 400 rows.
    assert planned_epochs(config(max_steps=50, batch_size=4, gradient_accumulation=2), 100) == 4


def test_the_judge_that_made_the_labels_should_not_watch(tmp_path: Path) -> None:
    models = {"policy": {"spec": "vllm/p"}, "judge": [{"spec": "openai/a"}], "judge_2": {"spec": "openai/b"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"models": models}))
    assert judges_of(tmp_path) == {"openai/a", "openai/b"}
    assert judges_of(tmp_path / "rows.jsonl") == frozenset()
    assert "made its labels" in (check_judge(config(data=tmp_path, watch_judge="openai/b")) or "")
    assert check_judge(config(data=tmp_path, watch_judge="vllm/p")) is None
    assert check_judge(config(data=tmp_path)) is None


def test_options_of_watching_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="raise --watch-prompts"):
        config(watch_judge="openai/a", watch_prompts=0)
    with pytest.raises(UsageError, match="give one of"):
        config(watch_judge="openai/a", watch_reward_model="vllm/r")
    with pytest.raises(UsageError, match="writes no answers"):
        RewardConfig(model="m", data=Path("d"), out=Path("o"), watch_judge="openai/a")
    with pytest.raises(UsageError, match="give held_out"):
        run_stage(config(watch_judge="openai/a"), stage=None)  # type: ignore[arg-type]

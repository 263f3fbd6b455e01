from __future__ import annotations

from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import ValidationError

from prefgen.errors import UsageError
from trainers.config import StageConfig
from trainers.dpo import DPOConfig
from trainers.kto import KTOConfig
from trainers.loading import check_machine
from trainers.orpo import ORPOConfig
from trainers.ppo import PPOConfig
from trainers.reward import RewardConfig
from trainers.sft import SFTConfig

STAGES = (SFTConfig, RewardConfig, DPOConfig, KTOConfig, ORPOConfig, PPOConfig)


def config(kind: type[StageConfig] = DPOConfig, **options: object) -> StageConfig:
    return kind(model="m", data=Path("d.jsonl"), out=Path("o"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "full", "lora"),
    [
        (SFTConfig, 2e-5, 2e-4),
        (RewardConfig, 1e-5, 1e-4),
        (DPOConfig, 5e-7, 5e-6),
        (KTOConfig, 5e-7, 5e-6),
        (ORPOConfig, 8e-6, 8e-5),
        (PPOConfig, 1e-6, 2e-5),
    ],
)
def test_each_stage_has_its_own_default_rates(kind: type[StageConfig], full: float, lora: float) -> None:
    assert config(kind).rate == full
    assert config(kind, lora=True).rate == config(kind, qlora=True).rate == lora
    assert config(kind, lora=True, learning_rate=0.5).rate == 0.5


@pytest.mark.parametrize("kind", STAGES)
def test_every_option_says_why_in_two_sentences_at_most(kind: type[StageConfig]) -> None:
    for name, info in kind.model_fields.items():
        assert info.description, name
        assert info.description.endswith("."), name
        assert info.description.count(". ") <= 1, name


@pytest.mark.parametrize("kind", STAGES)
def test_options_are_types_a_command_line_can_read(kind: type[StageConfig]) -> None:
    simple = {str, Path, int, float, bool, type(None)}
    for name, info in kind.model_fields.items():
        parts = [info.annotation, *get_args(info.annotation)] if get_origin(info.annotation) else []
        assert info.annotation in simple or all(
            part in simple or isinstance(part, str) or part is ... for part in parts[1:]
        ), name


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="learning_rat"):
        config(learning_rat=1.0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DPOConfig, {"resume": True, "overwrite": True}, "--overwrite deletes"),
        (DPOConfig, {"merge": True}, "needs --lora"),
        (DPOConfig, {"loss": "soft", "noise_rate": 0.1}, "--noise-rate belongs to"),
        (DPOConfig, {"loss": "ipo", "length_normalized": True}, "length-normalized by itself"),
        (DPOConfig, {"loss": "soft", "weight_by_confidence": True}, "in its target already"),
        (DPOConfig, {"early_stopping_patience": 1, "save_steps": 3, "eval_steps": 2}, "multiple"),
        (KTOConfig, {"batch_size": 1}, "--batch-size 2"),
    ],
)
def test_options_that_contradict_each_other(
    kind: type[StageConfig], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        config(kind, **options)


def test_saving_follows_evaluation_unless_told() -> None:
    assert (config().evaluation_interval, config().saving_interval) == (0.1, 0.1)
    assert (config(eval_steps=4).evaluation_interval, config(eval_steps=4).saving_interval) == (4, 4)
    assert (config(save_steps=6).evaluation_interval, config(save_steps=6).saving_interval) == (6, 6)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("transformers/models/mine", "without a provider: --model models/mine"),
        ("anthropic/claude-x", "a training takes a model's folder or Hugging Face id"),
    ],
)
def test_a_model_is_named_without_a_provider(tmp_path: Path, model: str, words: str) -> None:
    config = SFTConfig(model=model, data=tmp_path, out=tmp_path / "out")
    with pytest.raises(UsageError, match=words):
        check_machine(config)

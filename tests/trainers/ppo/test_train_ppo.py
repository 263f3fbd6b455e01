"""Real PPO runs of a tiny model that has learnt to answer with one of five words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tiny import pairs, turn, write_jsonl

from prefgen.errors import GateError, RunDirectoryError, UsageError
from trainers.ppo import PPOConfig, train_ppo
from trainers.ppo.kl import adapt
from trainers.report import read_report
from trainers.rewards import Reward, Sample
from trainers.sft import SFTConfig, train_sft

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

WORDS = ("blue", "green", "wide", "rain", "grass")
Scores = list[float | None]


@pytest.fixture(scope="module")
def talker(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says one of `WORDS`, each about as often as the others."""
    folder = tmp_path_factory.mktemp("talker")
    rows = [
        {"prompt": row["prompt"], "completion": [turn("assistant", WORDS[number % len(WORDS)])]}
        for number, row in enumerate(pairs(60))
    ]
    data = write_jsonl(folder / "rows.jsonl", rows)
    options: dict[str, Any] = {"max_steps": 80, "learning_rate": 1e-2, "eval_share": 0, "batch_size": 16}
    return train_sft(SFTConfig(model=str(model), data=data, out=folder / "model", epochs=99, **options))


@pytest.fixture(scope="module")
def louder(talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with logits twice as large. An adapter leaves the final norm and the tied output head alone,
    and with theirs the talker can give no word more than 56%, whatever the hidden states."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("louder") / "model"
    model = AutoModelForCausalLM.from_pretrained(talker, dtype=torch.float32)
    model.model.norm.weight.data *= 2
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(talker).save_pretrained(folder)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"prompt": row["prompt"], "number": number} for number, row in enumerate(pairs(20))]
    return write_jsonl(tmp_path / "prompts.jsonl", rows)


def says_blue(samples: Sequence[Sample]) -> Scores:
    return [float(sample.completion == "blue") for sample in samples]


def run(
    start: Path, data: Path, out: Path, score: Any = says_blue, on_log: Any = None, **options: Any
) -> Path:
    given: dict[str, Any] = {
        "rollout_batch_size": 16,
        "batch_size": 8,
        "ppo_epochs": 2,
        "max_new_tokens": 4,
        "max_steps": 3,
        "eval_share": 0.2,
        "learning_rate": 1e-3,
        "value_learning_rate": 3e-3,
        "gradient_checkpointing": False,
        "kl_coef": 0.01,
    }
    config = PPOConfig.model_validate({"model": str(start), "data": data, "out": out, **given, **options})
    return train_ppo(config, [Reward("rule", score)], on_log)


def lines(out: Path, split: str = "train") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["split"] == split]


def weights(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("**/*.safetensors"))}


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_the_best_answer_is_found(
    adapter: bool, talker: Path, louder: Path, prompts: Path, tmp_path: Path
) -> None:
    out = run(
        louder if adapter else talker,
        prompts,
        tmp_path / "out",
        max_steps=20,
        eval_steps=20,
        rollout_batch_size=32,
        learning_rate=2e-3,
        lora=adapter,
        merge=adapter,
        gradient_checkpointing=adapter,
    )
    report = read_report(out)
    assert report.first_eval is not None
    assert report.last_eval is not None
    assert report.first_eval["objective/scores"] < 0.6
    assert lines(out)[0]["objective/scores"] < 0.5
    assert sum(line["objective/scores"] for line in lines(out)[-5:]) / 5 > 0.9
    assert report.first_eval["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert report.last_eval["objective/kl"] > 0.5
    assert (report.steps, report.reload.max_difference < 1e-5) == (20, True)
    names = ["adapter_model", "merged/model", "value/adapter_model"] if adapter else ["model", "value/model"]
    assert [name.removesuffix(".safetensors") for name in weights(out)] == [*names, "value/value_head"]
    first, last = lines(out)[0], lines(out)[-1]
    assert first["val/ratio"] == pytest.approx(1, abs=0.2)
    assert last["policy/entropy"] < first["policy/entropy"]
    assert {
        "loss", "loss/policy", "loss/value", "objective/rlhf_reward", "policy/clipfrac", "policy/approxkl",
        "value/explained_variance", "completions/finished", "completions/mean_length", "learning_rate",
    } <= first.keys()  # fmt: skip


def test_the_same_seed_is_the_same_run(talker: Path, prompts: Path, tmp_path: Path) -> None:
    one, other, another = (
        run(talker, prompts, tmp_path / name, lora=True, max_steps=2, eval_share=0, seed=seed)
        for name, seed in (("one", 1), ("other", 1), ("another", 2))
    )
    assert weights(one) == weights(other)
    assert weights(one) != weights(another)
    assert lines(one) == lines(other)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_an_interrupted_run_ends_with_the_same_weights(
    adapter: bool, talker: Path, prompts: Path, tmp_path: Path
) -> None:
    def interrupt(numbers: dict[str, float]) -> None:
        if numbers["step"] == 4 and "loss" in numbers:
            raise KeyboardInterrupt

    options: dict[str, Any] = {
        "max_steps": 5, "save_steps": 2, "logging_steps": 1, "lora": adapter, "kl_target": 0.1,
        "keep_checkpoints": 1,
    }  # fmt: skip
    whole = run(talker, prompts, tmp_path / "whole", **options)
    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        run(talker, prompts, parts, on_log=interrupt, **options)
    assert [path.name for path in (parts / "checkpoints").iterdir()] == ["checkpoint-2"]
    with pytest.raises(RunDirectoryError, match="--resume"):
        run(talker, prompts, parts, **options)
    run(talker, prompts, parts, resume=True, **options)
    assert weights(parts) == weights(whole)
    assert lines(parts) == lines(whole)
    assert lines(parts, "eval") == lines(whole, "eval")
    assert lines(parts, "final") == lines(whole, "final")


def test_the_kl_coefficient_follows_its_formula(talker: Path, prompts: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"kl_target": 0.05, "kl_horizon": 40, "kl_coef": 0.3}
    steps = lines(run(talker, prompts, tmp_path / "out", max_steps=4, **options))
    assert steps[0]["objective/kl_coef"] == 0.3
    for early, late in pairwise(steps):
        expected = adapt(early["objective/kl_coef"], early["objective/kl"], 0.05, 16, 40)
        assert late["objective/kl_coef"] == pytest.approx(expected)
        assert late["objective/kl_coef"] != early["objective/kl_coef"]


def test_the_passes_over_a_batch_end_early(talker: Path, prompts: Path, tmp_path: Path) -> None:
    """16 responses by 8 make 2 updates a pass; the first is always made, since no policy is older."""
    [step] = lines(run(talker, prompts, tmp_path / "out", max_steps=1, ppo_epochs=5, target_kl=1e-6))
    assert step["policy/updates"] == 1
    [step] = lines(run(talker, prompts, tmp_path / "all", max_steps=1, ppo_epochs=5))
    assert step["policy/updates"] == 10


def test_a_sample_without_a_score_is_left_out(talker: Path, prompts: Path, tmp_path: Path) -> None:
    """Every other score is missing; those that are there are all 3, so nothing else may have counted."""
    seen: list[Sample] = []

    def fails_half(samples: Sequence[Sample]) -> Scores:
        seen.extend(samples)
        return [3.0 if place % 2 else None for place in range(len(samples))]

    options: dict[str, Any] = {"max_failure_share": 0.5, "eval_share": 0, "max_steps": 2}
    out = run(talker, prompts, tmp_path / "out", fails_half, **options)
    for line in lines(out):
        assert line["completions/unscored"] == 0.5
        assert (line["objective/scores"], line["objective/scores_std"]) == (3, 0)
        assert line["policy/updates"] == 2  # 8 of 16 responses: one minibatch a pass
    [end] = lines(out, "end")
    assert (end["samples"], end["unscored"], end["updates"]) == (32, 16, 4)
    assert not any("<|" in sample.completion for sample in seen)
    assert {type(sample.columns["number"]) for sample in seen} == {int}


def test_a_batch_without_any_score_is_skipped(talker: Path, prompts: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def fails_first(samples: Sequence[Sample]) -> Scores:
        calls.append(len(samples))
        return [None] * len(samples) if len(calls) == 1 else says_blue(samples)

    options: dict[str, Any] = {"eval_share": 0, "max_steps": 2, "max_failure_share": 1.0}
    out = run(talker, prompts, tmp_path / "out", fails_first, **options)
    first, second = lines(out)
    assert "loss" not in first
    assert "loss" in second
    assert lines(out, "end")[0]["skipped_batches"] == 1


def test_a_reward_that_always_fails_stops_the_run(talker: Path, prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"48 of 48 samples \(100%\) have no score.*--resume"):
        run(talker, prompts, tmp_path / "out", lambda samples: [None] * len(samples), eval_share=0)
    assert not (tmp_path / "out" / "training.json").exists()


def test_options_that_make_no_sense_are_refused_before_anything_is_written(
    talker: Path, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for options, message in (
        ({"rollout_batch_size": 4}, "--rollout-batch-size"),
        ({"max_new_tokens": 64, "max_length": 64}, "--max-new-tokens"),
        ({"early_stopping_patience": 1}, "--early-stopping-patience"),
        ({"kl_target": 1.0, "kl_coef": 0.0}, "--kl-coef"),
        ({"kl_target": 1.0, "kl_horizon": 8}, "--kl-horizon"),
        ({"qlora": True, "rollouts": "vllm"}, "4 bits"),
        ({"rollouts": "vllm"}, "tied embeddings"),
    ):
        with pytest.raises(UsageError, match=message):
            run(talker, prompts, out, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least one reward"):
        train_ppo(PPOConfig(model=str(talker), data=prompts, out=out), [])
    assert not out.exists()


def test_prompts_are_counted_and_a_pair_of_prompts_is_one(
    talker: Path, prompts: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    long = {"prompt": "what is the colour of the sky today " * 20, "number": 99}
    data = write_jsonl(tmp_path / "more.jsonl", [*rows, *rows[:3], long])
    counts = read_report(run(talker, data, tmp_path / "out", max_steps=1, eval_share=0)).counts
    assert counts["train_used"] == 20
    assert counts["train_dropped_same_prompt"] == 3
    assert counts["train_dropped_prompt_too_long"] == 1


def test_a_held_out_score_only_measures(talker: Path, prompts: Path, tmp_path: Path) -> None:
    config = PPOConfig(
        model=str(talker), data=prompts, out=tmp_path / "out", rollout_batch_size=8, max_new_tokens=4,
        max_steps=1, eval_share=0.2, dtype="bfloat16", whiten_rewards=True,
    )  # fmt: skip
    held_out: list[int] = []

    def measure(samples: Sequence[Sample]) -> Scores:
        held_out.append(len(samples))
        return [7.0, None, 9.0, None]

    out = train_ppo(config, [Reward("rule", says_blue)], None, measure)
    assert held_out == [4, 4]  # before and after the step
    assert [line["held_out"] for line in lines(out, "watch")] == [8, 8]
    assert read_report(out).settings["bf16"] is True

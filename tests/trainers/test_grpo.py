"""GRPO: its batches, what a sample without a reward counts for, and real trainings of a tiny model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import pairs, write_jsonl

from prefgen.errors import RunDirectoryError, UsageError
from prefgen.messages import Json, user
from trainers.grpo import (
    Batch,
    GRPOConfig,
    fit_batch,
    interval,
    masking_trainer,
    review,
    reward_metrics,
    scoring,
    train_grpo,
)
from trainers.report import read_report
from trainers.rewards import Reward, Sample

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK: dict[str, Any] = {
    "batch_size": 4,
    "gradient_accumulation": 2,
    "group_size": 4,
    "max_new_tokens": 6,
    "eval_share": 0.2,
    "max_steps": 3,
    "eval_steps": 2,
    "gradient_checkpointing": False,
    "learning_rate": 1e-3,
}


def letters(samples: Sequence[Sample]) -> list[float | None]:
    """How many of the letters are an e."""
    return [sample.completion.count("e") / max(1, len(sample.completion)) for sample in samples]


def every_third_fails(samples: Sequence[Sample]) -> list[float | None]:
    return [None if place % 3 == 1 else 1.0 * place for place in range(len(samples))]


# ----------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("given", "batch"),
    [
        ((8, 8, 8, 100), Batch(8, 8, 8)),  # 64 responses: as asked for
        ((8, 1, 6, 100), Batch(6, 2, 2)),  # 8 are not whole groups of 6: 12, in two passes of 6
        ((7, 1, 8, 100), Batch(4, 2, 1)),  # one group of 8; 7 does not divide it, 4 does
        ((8, 8, 8, 3), Batch(8, 3, 3)),  # three prompts are all there are
        ((64, 1, 8, 100), Batch(64, 1, 8)),
        ((1, 1, 5, 9), Batch(1, 5, 1)),
    ],
)
def test_a_step_holds_whole_groups(given: tuple[int, int, int, int], batch: Batch) -> None:
    assert fit_batch(*given) == batch
    assert batch.forward * batch.passes == batch.groups * given[2]
    assert batch.forward <= given[0]


def test_checkpoints_stand_where_new_responses_are_sampled() -> None:
    assert interval(0.1, 100, 1) == 10
    assert interval(0.1, 95, 4) == 12  # 9.5 steps, rounded up to three samplings of 4 steps
    assert interval(8, 100, 4) == 8
    assert interval(0.1, 3, 2) == 2
    with pytest.raises(UsageError, match="multiple of --num-iterations"):
        GRPOConfig(model="m", data=Path("d"), out=Path("o"), save_steps=3, num_iterations=2)


def test_a_reward_is_the_sum_of_all_and_each_has_its_mean() -> None:
    rewards = [Reward("judge", every_third_fails, 2.0), Reward("e", letters)]
    heard: dict[str, float] = {}
    turns: list[Json] = [[{"role": "user", "content": "hi"}]] * 3
    answers = [[{"role": "assistant", "content": text}] for text in ("e", "ab", "ae")]
    scores = scoring(rewards, {1})(
        prompts=turns,
        completions=answers,
        completion_ids=[[5, 1], [6, 7], [8]],
        columns=["{}"] * 3,
        log_metric=heard.__setitem__,
        trainer_state=None,
    )
    # 2 * 0 + 1; failed; 2 * 2 + 1/2
    assert scores == [1.0, None, 4.5]
    assert heard == pytest.approx(
        {
            "rewards/judge/mean": 1.0,
            "rewards/e/mean": 0.5,
            "rewards/unscored": 1 / 3,
            # The longer of the two that were scored got less.
            "reward_length_correlation": -1.0,
        }
    )


def test_a_reward_that_never_scores_has_no_mean() -> None:
    metrics = reward_metrics([Reward("judge", every_third_fails)], [[None, None]], [None, None])
    assert metrics == {"rewards/unscored": 1.0}


def test_samples_know_their_columns_and_whether_they_ended() -> None:
    seen: list[Sample] = []

    def watch(samples: Sequence[Sample]) -> list[float | None]:
        seen.extend(samples)
        return [0.0] * len(samples)

    scoring([Reward("w", watch)], {1})(
        prompts=[[{"role": "user", "content": "q"}]] * 2,
        completions=[[{"role": "assistant", "content": "a"}]] * 2,
        completion_ids=[[3, 1], [3, 4]],
        columns=['{"answer": 4}', "{}"],
        log_metric=lambda name, value: None,
    )
    assert seen == [Sample(user("q"), "a", True, {"answer": 4}), Sample(user("q"), "a", False, {})]


def test_groups_that_teach_nothing_are_told_of() -> None:
    lines = [
        {"split": "train", "frac_reward_zero_std": share, "rewards/unscored": 0.0} for share in (0.5, 0.9)
    ]
    assert "70% of the groups all rewards were equal" in review(lines)[0]  # type: ignore[arg-type]
    assert review([{"split": "eval", "frac_reward_zero_std": 1.0}]) == []
    assert "25.0% of the responses" in review([{"split": "train", "rewards/unscored": 0.25}])[0]


# ------------------------------------------------------------------------ what is masked counts for nothing


def make_trainer(model: Path, tmp_path: Path, loss: str, scores: list[float | None]) -> Any:
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    def fixed(**given: object) -> list[float | None]:
        return scores

    rows = [{"prompt": row["prompt"], "columns": "{}"} for row in pairs(2)]
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        beta=0.5,
        loss_type=loss,
    )
    trainer = masking_trainer()(
        model=str(model),
        reward_funcs=[fixed],
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.mark.train
@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo"])
def test_a_sample_without_a_reward_changes_neither_its_group_nor_the_loss(
    loss: str, model: Path, tmp_path: Path
) -> None:
    import torch

    # Group one: 1, 2, -, 6: mean 3, standard deviation sqrt((4 + 1 + 9) / 2) = sqrt 7. Group two: nobody
    # but one has a reward, so there is nothing to compare it with.
    scores: list[float | None] = [1.0, 2.0, None, 6.0, None, 5.0, None, None]
    trainer = make_trainer(model, tmp_path, loss, scores)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            # Away from the reference, so that the KL divergence counts.
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    inputs = [trainer.train_dataset[0]] * 4 + [trainer.train_dataset[1]] * 4
    batch = trainer._generate_and_score_completions(inputs)
    spread = math.sqrt(7) + 1e-4
    expected = [-2 / spread, -1 / spread, 0, 3 / spread, 0, 0, 0, 0]
    assert batch["advantages"].tolist() == pytest.approx(expected)

    kept = torch.tensor([score is not None for score in scores])
    alone = {
        name: value[kept] if isinstance(value, torch.Tensor) and value.dim() else value
        for name, value in batch.items()
        if name not in ("tool_mask", "scored_share")
    }
    alone["num_items_in_batch"] = alone["completion_mask"].sum()
    losses, gradients = [], []
    for given in (batch, alone):
        trainer.model.zero_grad()
        value = trainer._compute_loss(trainer.model, given)
        value.backward()
        losses.append(value.item())
        gradients.append(torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert abs(losses[0]) > 1e-3


@pytest.mark.train
def test_where_all_are_scored_the_loss_is_trls(model: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model, tmp_path, "dapo", [float(n) for n in range(8)])
    batch = trainer._generate_and_score_completions(
        [trainer.train_dataset[0]] * 4 + [trainer.train_dataset[1]] * 4
    )
    assert "tool_mask" not in batch
    # 0, 1, 2, 3 in a group: mean 1.5, standard deviation sqrt(5 / 3).
    spread = math.sqrt(5 / 3) + 1e-4
    hand = [-1.5 / spread, -0.5 / spread, 0.5 / spread, 1.5 / spread]
    assert batch["advantages"].tolist() == pytest.approx(hand * 2, abs=1e-5)


# ------------------------------------------------------------------------------------------ real trainings


def train(model: Path, tmp_path: Path, out: str, rewards: Sequence[Reward], **options: object) -> Path:
    data = tmp_path / "prompts.jsonl"
    if not data.exists():
        write_jsonl(data, [*pairs(12), *pairs(3)])
    values = {"model": str(model), "data": data, "out": tmp_path / out, **QUICK, **options}
    on_log = values.pop("on_log", None)
    return train_grpo(GRPOConfig.model_validate(values), rewards, on_log)


@pytest.mark.train
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_grpo_trains_and_what_it_saved_is_what_it_trained(
    adapter: bool, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[dict[str, float]] = []
    rewards = [Reward("e", letters, identity="letters"), Reward("odd", every_third_fails, 0.1)]
    out = train(model, tmp_path, "out", rewards, lora=adapter, merge=adapter, on_log=heard.append)
    assert tuple(capfd.readouterr()) == ("", "")
    report = read_report(out)
    assert (report.stage, report.steps, report.reload.max_difference) == ("grpo", 3, 0)
    # 15 rows hold 12 prompts, of which 2 are held out; the doubles go where their prompts are.
    assert report.counts["train_used"] + report.counts["eval_used"] == 12
    assert (
        report.counts.get("train_dropped_same_prompt", 0) + report.counts.get("eval_dropped_same_prompt", 0)
        == 3
    )
    assert report.frozen_sha256 is not None
    assert report.settings["responses_per_step"] == 8
    assert (report.inputs["reward e"], report.inputs["reward odd"]) == ("1 letters", "0.1")
    first = next(numbers for numbers in heard if "loss" in numbers)
    # The policy is its reference before the first step changed it.
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert first["rewards/unscored"] == pytest.approx(3 / 8)
    assert {"reward", "rewards/e/mean", "rewards/odd/mean", "frac_reward_zero_std"} <= first.keys()
    assert (report.last_eval or {})["reward"] >= 0
    assert any("--group-size 4 is small" in text for text in report.warnings)
    assert any("could not be scored" in text for text in report.warnings)


@pytest.mark.train
@pytest.mark.parametrize("num_iterations", [1, 2])
def test_a_resumed_run_ends_with_the_same_weights(num_iterations: int, model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    class KilledError(Exception):
        pass

    def kill(numbers: dict[str, float]) -> None:
        if numbers["step"] == 3 and "loss" in numbers:
            raise KilledError

    options = {"max_steps": 4, "save_steps": 2, "eval_steps": 2, "num_iterations": num_iterations}
    rewards = [Reward("e", letters)]
    whole = train(model, tmp_path, "whole", rewards, **options)
    with pytest.raises(KilledError):
        train(model, tmp_path, "cut", rewards, on_log=kill, **options)
    with pytest.raises(RunDirectoryError, match="reward e was 1, is 2"):
        train(model, tmp_path, "cut", [Reward("e", letters, 2.0)], resume=True, **options)
    resumed = train(model, tmp_path, "cut", rewards, resume=True, **options)
    weights = [load_file(folder / "model.safetensors") for folder in (whole, resumed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


@pytest.mark.train
def test_a_rewarded_letter_becomes_frequent(model: Path, tmp_path: Path) -> None:
    options = {
        "max_steps": 25,
        "learning_rate": 1e-2,
        "group_size": 8,
        "gradient_accumulation": 8,
        "beta": 0.0,
    }
    report = read_report(train(model, tmp_path, "out", [Reward("e", letters)], eval_samples=8, **options))
    assert report.frozen_sha256 is None
    assert report.first_eval is not None
    assert report.last_eval is not None
    assert report.last_eval["reward"] > report.first_eval["reward"] + 0.1


@pytest.mark.train
def test_what_cannot_be_trained_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one reward"):
        train(model, tmp_path, "out", [])
    with pytest.raises(UsageError, match="--rollouts vllm needs a CUDA device"):
        train(model, tmp_path, "out", [Reward("e", letters)], rollouts="vllm")
    with pytest.raises(UsageError, match="leave no room for a prompt in 128 tokens"):
        train(model, tmp_path, "out", [Reward("e", letters)], max_new_tokens=128)
    assert not (tmp_path / "out").exists()

"""What is seen of a model in training, against slow arithmetic, and that looking leaves no trace."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import make_model, pairs, turn, write_jsonl

from prefgen.messages import Message, user
from trainers.dpo import DPOConfig, train_dpo
from trainers.monitor import Monitor
from trainers.report import read_report
from trainers.reward import RewardConfig, train_reward
from trainers.rewards import Sample
from trainers.rows import Row
from trainers.sampling import at_rest, sample, think
from trainers.sft import SFTConfig, train_sft
from trainers.watching import PolicyWatcher, correlation, k3, watched_prompts

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

QUICK = {
    "batch_size": 4,
    "eval_share": 0.2,
    "max_steps": 4,
    "eval_steps": 2,
    "gradient_checkpointing": False,
    "learning_rate": 1e-3,
    "watch_prompts": 3,
    "watch_tokens": 8,
    "allow_base_model": True,
}
PROMPTS = [(3, 20, 21, 4), (3, 22, 4), (3, 20, 23, 24, 25, 4)]
PAD, END = 0, 1


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", pairs(24))


@pytest.fixture(scope="module")
def policies(model: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A policy and another model, with weights large enough that they differ."""
    import torch
    from transformers import AutoModelForCausalLM

    other = make_model(tmp_path_factory.mktemp("models") / "other", seed=1)
    found = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (model, other)]
    for policy in found:
        for weight in policy.parameters():
            weight.data *= 3
    return found


def slow(policy: Any, prompt: Sequence[int], answer: Sequence[int]) -> list[list[float]]:
    """Log-probabilities of the whole vocabulary at each place of an answer: one prefix at a time, no
    padding."""
    import torch

    found = []
    for place in range(len(answer)):
        ids = torch.tensor([[*prompt, *answer[:place]]])
        with torch.no_grad():
            found.append(policy(ids).logits[0, -1].double().log_softmax(-1).tolist())
    return found


# ------------------------------------------------------------------------------------------------- arithmetic


def test_k3_by_hand() -> None:
    # Ratios policy / start: 2 and 1/2. (2 - 1) - log 2 = 0.30685; (1/2 - 1) - log(1/2) = 0.19315.
    assert k3([math.log(0.2), math.log(0.4)], [math.log(0.4), math.log(0.2)]) == pytest.approx(0.5)
    assert k3([-1.0, -2.0], [-1.0, -2.0]) == 0


def test_correlation_within_pairs_by_hand() -> None:
    # (1·2 + 2·(-1)) / sqrt((1 + 4)(4 + 1)) = 0; all in proportion: 1; turning a pair round changes nothing.
    assert correlation([1, 2], [2, -1]) == 0
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    # (1·1 + 1·3) / sqrt(2 · 10) = 4 / 4.4721
    assert correlation([1, 1], [1, 3]) == pytest.approx(0.894427)
    assert correlation([-1, 1], [-1, 3]) == pytest.approx(0.894427)
    assert correlation([1, 2], [0, 0]) is None


def test_entropy_divergence_and_log_probs_are_those_of_one_prefix_at_a_time(policies: list[Any]) -> None:
    policy, other = policies
    answers = [(30, 31, 32, END), (33,), (34, 35)]
    told = think(policy.eval(), PROMPTS, answers, PAD, other.eval())
    for prompt, answer, thoughts in zip(PROMPTS, answers, told, strict=True):
        ours, theirs = slow(policy, prompt, answer), slow(other, prompt, answer)
        kl = sum(
            math.exp(p) * (p - q)
            for a, b in zip(ours, theirs, strict=True)
            for p, q in zip(a, b, strict=True)
        )
        entropy = sum(-math.exp(p) * p for place in ours for p in place) / len(answer)
        assert kl > 0.01
        assert thoughts.kl == pytest.approx(kl, rel=1e-3)
        assert thoughts.entropy == pytest.approx(entropy, rel=1e-4)
        picked = [place[token] for place, token in zip(ours, answer, strict=True)]
        assert list(thoughts.log_probs) == pytest.approx(picked, rel=1e-4)


def test_the_mean_divergence_is_that_of_whole_answers(policies: list[Any]) -> None:
    """Against the log-ratio of the sampled tokens, an unbiased estimate with more noise."""
    policy, other = policies
    prompts = PROMPTS[:1] * 400
    with at_rest(policy, 0, bf16=False):
        answers = sample(policy, prompts, PAD, {END}, 4)
        ours = think(policy, prompts, answers, PAD, other.eval())
        theirs = think(other, prompts, answers, PAD)
    ratios = [sum(a.log_probs) - sum(b.log_probs) for a, b in zip(ours, theirs, strict=True)]
    exact = [thoughts.kl or 0.0 for thoughts in ours]
    mean, spread = _mean_and_error(ratios)
    better, error = _mean_and_error(exact)
    assert abs(better - mean) < 4 * spread
    assert error < spread / 2


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def test_answers_are_drawn_from_the_model_whatever_its_own_settings(policies: list[Any]) -> None:
    """Shares of the first token against its probability, though the model's own config would cut all but
    one."""
    policy = policies[0]
    before = policy.generation_config.top_k, policy.generation_config.repetition_penalty
    policy.generation_config.top_k, policy.generation_config.repetition_penalty = 1, 3.0
    try:
        with at_rest(policy, 0, bf16=False):
            drawn = [ids[0] for ids in sample(policy, PROMPTS[:1] * 2000, PAD, {END}, 1)]
    finally:
        policy.generation_config.top_k, policy.generation_config.repetition_penalty = before
    probabilities = [math.exp(value) for value in slow(policy, PROMPTS[0], (0,))[0]]
    for token in sorted(range(len(probabilities)), key=lambda token: -probabilities[token])[:3]:
        share, p = drawn.count(token) / 2000, probabilities[token]
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 2000)


def test_looking_changes_neither_mode_nor_random_numbers(policies: list[Any]) -> None:
    import torch

    policy = policies[0].train()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with at_rest(policy, 0, bf16=False):
        assert not policy.training
        first = sample(policy, PROMPTS, PAD, {END}, 5)
    assert policy.training
    assert torch.equal(torch.get_rng_state(), before)
    with at_rest(policy, 0, bf16=False):
        assert sample(policy, PROMPTS, PAD, {END}, 5) == first
    assert {len(ids) for ids in first} <= {1, 2, 3, 4, 5}


def test_the_watched_prompts_are_the_same_whatever_the_order(tokenizer: Any) -> None:
    rows = [Row(Path("f"), n, (Message("user", f"what is the sky {n}"),), ()) for n in range(9)]
    found = watched_prompts([*rows, *rows], tokenizer, 4, 100)
    assert len({prompt.ids for prompt in found}) == 4
    assert found == watched_prompts(rows[::-1], tokenizer, 4, 100)
    assert watched_prompts(rows, tokenizer, 4, 2) == []


def test_a_watcher_serves_a_loop_of_ones_own(model: Path, tokenizer: Any, tmp_path: Path) -> None:
    """Model, tokenizer and prompts, nothing of TRL: what a stage with its own loop calls."""
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(model)
    row = Row(Path("f"), 1, user("what is the sky"), ())
    watcher = PolicyWatcher(
        watched_prompts([row], tokenizer, 1, 100), tokenizer, frozenset({END}), 6, held_out=lambda told: [2.0]
    )
    watcher.begin(policy)
    monitor = Monitor(tmp_path / "metrics.jsonl")
    monitor.evaluated(0, 0.0, watcher.start)
    next(iter(policy.parameters())).data *= 1.5
    monitor.evaluated(10, 0.5, watcher.look(policy))
    first, second = lines(monitor.path)
    assert (first["kl_start"], first["length_ratio"], first["held_out"]) == (0, 1, 2)
    assert second["kl_start"] > 0
    assert monitor.stopped_by is None


# ------------------------------------------------------------------------------------------------ in training


def dpo(model: Path, rows: Path, out: Path, held_out: Any = None, **options: object) -> Path:
    config = DPOConfig.model_validate({"model": str(model), "data": rows, "out": out, **QUICK, **options})
    return train_dpo(config, held_out=held_out)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_a_watched_run_gives_the_same_weights(adapter: bool, model: Path, rows: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def judge(samples: Sequence[Sample]) -> list[float | None]:
        asked.append(len(samples))
        return [None, *[float(len(said.completion)) for said in samples[1:]]]

    watched = dpo(model, rows, tmp_path / "watched", judge, lora=adapter, gradient_checkpointing=True)
    alone = dpo(model, rows, tmp_path / "alone", lora=adapter, gradient_checkpointing=True, watch_prompts=0)
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    assert (watched / name).read_bytes() == (alone / name).read_bytes()
    told = lines(watched / "metrics.jsonl")
    looks = [line for line in told if line["split"] == "watch"]
    assert next(line for line in told if line["split"] == "eval")["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert [line["step"] for line in looks] == [0, 2, 4]
    assert asked == [3, 3, 3]
    # In full DPO holds no second model, so the divergence is the start's from the model.
    kl = "kl" if adapter else "kl_start"
    assert looks[0][kl] == pytest.approx(0, abs=1e-5)
    assert looks[2][kl] > 1e-4
    assert looks[0]["length_ratio"] == 1
    assert {line["held_out_scored"] for line in looks} == {2}
    said = lines(watched / "samples.jsonl")
    assert [line["step"] for line in said] == [0] * 3 + [2] * 3 + [4] * 3
    assert said[0]["prompt"][0]["role"] == "user"
    assert said[0]["held_out"] is None
    assert said[1]["held_out"] == len(said[1]["completion"])
    assert not (alone / "samples.jsonl").exists()


def test_without_a_reference_the_divergence_is_from_the_starts_own_answers(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    """And without held-out rows the watcher keeps its own time, on training prompts."""
    options = {
        "model": str(model),
        "data": rows,
        "out": tmp_path / "out",
        **QUICK,
        "eval_share": 0,
        "max_steps": 5,
    }
    report = read_report(train_sft(SFTConfig.model_validate(options)))
    assert any("prompts that are watched are trained on" in warning for warning in report.warnings)
    looks = [line for line in lines(tmp_path / "out" / "metrics.jsonl") if line["split"] == "watch"]
    assert [line["step"] for line in looks] == [0, 2, 4, 5]
    assert looks[0]["kl_start"] == pytest.approx(0, abs=1e-6)
    assert looks[3]["kl_start"] > looks[1]["kl_start"] > 0
    assert "kl" not in looks[0]


def test_a_reward_model_is_watched_for_length(model: Path, tmp_path: Path) -> None:
    """Chosen responses that always are the longer ones: after a few steps reward follows length."""
    told = [
        {
            **row,
            "chosen": [turn("assistant", "blue" + " is" * (n % 5 + 2))],
            "rejected": [turn("assistant", "blue")],
        }
        for n, row in enumerate(pairs(30))
    ]
    rows = write_jsonl(tmp_path / "rows.jsonl", told)
    options = QUICK | {"max_steps": 12, "eval_steps": 4}
    out = train_reward(
        RewardConfig.model_validate({"model": str(model), "data": rows, "out": tmp_path / "o", **options})
    )
    report = read_report(out)
    assert [alarm.name for alarm in report.alarms] == ["reward_follows_length"]
    looks = [line for line in lines(out / "metrics.jsonl") if line["split"] == "watch"]
    assert looks[-1]["reward_length_correlation"] > 0.5
    assert len(lines(out / "samples.jsonl")) == 4 * report.counts["eval_used"]


class Falling:
    """A judge that likes the answers up to an evaluation and less and less after it."""

    def __init__(self, good: int) -> None:
        self.good, self.looks = good, 0

    def __call__(self, samples: Sequence[Sample]) -> list[float | None]:
        self.looks += 1
        lost = max(0, self.looks - self.good)
        return [5.0 - lost - 0.01 * place * lost for place in range(len(samples))]


def test_an_alarm_stops_the_run_and_the_checkpoint_from_before_is_kept(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    # Looks at steps 0, 2, 4: good at 0 and 2, lower at 4.
    out = dpo(model, rows, tmp_path / "out", Falling(2), max_steps=20, on_alarm="stop")
    report = read_report(out)
    assert (report.steps, report.kept_step, report.stopped_by_alarm) == (4, 2, "over_optimised")
    assert not report.stopped_early
    assert report.alarms[0].good_step == 2
    assert (out / "model.safetensors").read_bytes() == (
        out / "checkpoints" / "checkpoint-2" / "model.safetensors"
    ).read_bytes()
    assert [line["step"] for line in lines(out / "metrics.jsonl") if line["split"] == "final"] == [4]
    assert dpo(model, rows, out, Falling(2), max_steps=20, on_alarm="stop", resume=True) == out


def test_an_alarm_warns_once_and_a_resumed_run_remembers_it(model: Path, rows: Path, tmp_path: Path) -> None:
    def interrupt(numbers: dict[str, float]) -> None:
        if numbers["step"] == 9:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"max_steps": 12, "lora": True, "learning_rate": 1e-2}
    whole = dpo(model, rows, tmp_path / "whole", Falling(1), **options)
    assert [alarm.step for alarm in read_report(whole).alarms] == [4]
    config = {"model": str(model), "data": rows, "out": tmp_path / "parts", **QUICK, **options}
    with pytest.raises(KeyboardInterrupt):
        train_dpo(DPOConfig.model_validate(config), interrupt, Falling(1))
    # A resumed run asks the judge about the start once more, so this one goes on from its fifth look.
    judge = Falling(1)
    judge.looks = 5
    parts = train_dpo(DPOConfig.model_validate(config | {"resume": True}), held_out=lambda told: judge(told))
    kept = ("split", "step", "kl", "length", "entropy", "name", "loss")
    for name in ("metrics.jsonl", "samples.jsonl"):
        ours, theirs = (
            [{key: line.get(key) for key in kept} for line in lines(at / name)] for at in (parts, whole)
        )
        assert [line for line in ours if line["split"] != "end"] == [
            line for line in theirs if line["split"] != "end"
        ]
    assert read_report(parts).alarms == read_report(whole).alarms

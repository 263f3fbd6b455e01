"""What alignment cost: log-loss of real tiny models, and right answers to tasks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Runner, write_prompts
from tiny_models import make_causal_lm

from pipelines.evaluation.alignment_tax import (
    LogLoss,
    Task,
    check_held_out,
    contains,
    exact_match,
    log_loss,
    log_loss_result,
    normalised,
    read_task,
    task_result,
    tax_warnings,
)
from pipelines.evaluation.answers import FileSide
from prefgen.errors import InputError, UsageError
from prefgen.messages import user
from prefgen.prompt import Prompt

FILE = Path("held_out.jsonl")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Answer, is: 42!", "answer is 42"),
        ("1,234,567.50 euros", "1234567.50 euros"),
        ("-3 or 3.5.", "-3 or 3.5"),
        ("It's a café", "it's café"),
        ("ﬁve", "five"),
        ("北京", "北京"),
        ("A", ""),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_both_metrics() -> None:
    assert exact_match("The answer.", "answer")
    assert not exact_match("I think: 42", "42")
    assert contains("I think: 42", "42")
    assert not contains("I think: 142", "42")
    assert not contains("3.5", "3")


def test_log_loss_by_hand() -> None:
    # Two rows of 2 and 6 tokens: (2 + 3) / 8 and (4 + 3) / 8; the third fits the baseline only.
    model = LogLoss(np.array([2.0, 3.0, 0.0]), np.array([2.0, 6.0, 0.0]))
    baseline = LogLoss(np.array([4.0, 3.0, 9.0]), np.array([2.0, 6.0, 9.0]))
    found = log_loss_result(FILE, model, baseline)
    assert (found["n"], found["n_too_long"], found["n_tokens"]) == (2, 1, 8)
    assert found["model"]["value"] == pytest.approx(5 / 8)
    assert found["baseline"]["value"] == pytest.approx(7 / 8)
    assert found["difference"]["value"] == pytest.approx(-2 / 8)
    # Either row may be drawn twice: from (2 - 4) / 2 to 0.
    assert found["difference"]["ci"] == pytest.approx([-1, 0])


def test_models_of_other_tokens_cannot_be_compared() -> None:
    ours, theirs = (LogLoss(np.array([2.0]), np.array([tokens])) for tokens in (2.0, 3.0))
    with pytest.raises(InputError, match="different tokens"):
        log_loss_result(FILE, ours, theirs)
    with pytest.raises(InputError, match="no row fits"):
        log_loss_result(FILE, ours, LogLoss(np.array([0.0]), np.array([0.0])))


def test_log_loss_is_what_the_model_says_itself(tmp_path: Path) -> None:
    """transformers' own loss with the prompt masked."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_causal_lm(tmp_path / "model")
    rows = [
        {"prompt": "Where is my parcel?", "completion": "On its way."},
        {"prompt": "x" * 600, "completion": "too long"},
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Good day to you"},
            ]
        },
    ]
    found = log_loss(f"transformers/{folder}", write_prompts(tmp_path / "h.jsonl", rows), {})
    assert found.tokens[1] == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for place, prompt, reply in ((0, "Where is my parcel?", "On its way."), (2, "Hi", "Good day to you")):
        turn = [{"role": "user", "content": prompt}]
        start = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
        whole = tokenizer.apply_chat_template(
            [*turn, {"role": "assistant", "content": reply}], return_dict=True
        )["input_ids"]
        ids = torch.tensor([whole])
        masked = ids.clone()
        masked[0, : len(start)] = -100
        loss = float(model(input_ids=ids, labels=masked).loss.detach())
        assert found.tokens[place] == len(whole) - len(start)
        assert found.nats[place] / found.tokens[place] == pytest.approx(loss, rel=1e-4)


def test_the_tax_in_one_command(tmp_path: Path, prefgen: Runner) -> None:
    new, old = (make_causal_lm(tmp_path / name, seed=seed) for seed, name in enumerate(("new", "old")))
    prompts = write_prompts(tmp_path / "p.jsonl", [{"prompt": "Hello"}, {"prompt": "Where is it?"}])
    held_out = write_prompts(
        tmp_path / "h.jsonl", [{"prompt": f"Question {n}", "completion": f"Answer {n}."} for n in range(6)]
    )
    task = write_prompts(tmp_path / "t.jsonl", [{"prompt": f"{n} + {n}?", "answer": 2 * n} for n in range(4)])
    done = prefgen(
        "evaluate", prompts, "--model", f"transformers/{new}", "--baseline", f"transformers/{old}",
        "--judge", "scripted/judge", "--max-tokens", 8, "--held-out", held_out, "--task", task,
        "--out", tmp_path / "e", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    tax = done.result["alignment_tax"]
    # Random weights: about as good as guessing among some 400 tokens.
    assert 0.5 * math.log(400) < tax["log_loss"]["model"]["value"] < 3 * math.log(400)
    assert tax["log_loss"]["n"] == 6
    assert tax["tasks"][str(task)]["n"] == 4
    assert tax["tasks"][str(task)]["exact_match"]["model"]["value"] == 0


async def test_a_task_by_hand() -> None:
    prompts = [Prompt(str(n), user(f"{n}?")) for n in range(4)]
    task = Task(FILE, prompts, ["5", "Paris", "blue", "no"])
    model = FileSide("new", {"0": "5", "1": "It is Paris.", "2": "red", "3": None})
    baseline = FileSide("old", {"0": "5.", "1": "Paris", "2": "blue, I think", "3": "no"})
    found = await task_result(task, model, baseline)
    assert (found["n"], found["n_failed"]) == (3, 1)
    # Exactly: 5 | 5 and Paris; within: 5 and Paris | all three.
    values = {
        metric: [found[metric][side]["value"] for side in ("model", "baseline", "difference")]
        for metric in ("exact_match", "contains")
    }
    assert values["exact_match"] == pytest.approx([100 / 3, 200 / 3, -100 / 3])
    assert values["contains"] == pytest.approx([200 / 3, 100, -100 / 3])


def test_a_file_of_answers_cannot_be_asked(tmp_path: Path, prefgen: Runner) -> None:
    prompts = write_prompts(tmp_path / "p.jsonl", [{"id": "1", "prompt": "Hello"}])
    answers = write_prompts(tmp_path / "b.jsonl", [{"id": "1", "response": "x"}])
    task = write_prompts(tmp_path / "t.jsonl", [{"prompt": "What matters?", "answer": "cost"}])
    refused = prefgen(
        "evaluate", prompts, "--model", "scripted/writer", "--baseline", answers,
        "--judge", "scripted/judge", "--task", task, "--out", tmp_path / "e",
    )  # fmt: skip
    assert refused.code == 2
    assert "--task asks both models" in refused.err


@pytest.mark.parametrize("answer", [None, True, "", "...", ["a"]])
def test_a_task_without_an_answer(answer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "1 + 1?", "answer": "2"}, {"prompt": "2 + 2?", "answer": answer}]
    with pytest.raises(InputError) as refused:
        read_task(write_prompts(tmp_path / "t.jsonl", rows))
    assert refused.value.line == 2


def test_log_loss_needs_weights(tmp_path: Path) -> None:
    held_out = write_prompts(tmp_path / "h.jsonl", [{"prompt": "a", "completion": "b"}])
    check_held_out(held_out, ["vllm/some/model", "transformers/other"])
    for side in ("openai/gpt", "answers.jsonl"):
        with pytest.raises(UsageError, match="needs the weights"):
            check_held_out(held_out, ["vllm/some/model", side])
    with pytest.raises(InputError):
        check_held_out(write_prompts(tmp_path / "x.jsonl", [{"prompt": "a"}]), ["vllm/a", "vllm/b"])


def test_what_became_worse_is_said() -> None:
    def told(low: float, high: float) -> dict[str, Any]:
        return {"difference": {"value": (low + high) / 2, "ci": [low, high]}}

    same, worse = told(-1, 1), told(-5, -1)
    tasks = {"math.jsonl": {"exact_match": worse, "contains": same}}
    assert tax_warnings({"log_loss": told(0.1, 0.2), "tasks": tasks}) == [
        "alignment tax: the log-loss on held-out demonstrations is higher than the baseline's",
        "alignment tax: fewer right answers to math.jsonl (exact match)",
    ]
    assert not tax_warnings({"log_loss": told(-0.1, 0.2), "tasks": {}})
    assert not tax_warnings({"log_loss": None, "tasks": {}})

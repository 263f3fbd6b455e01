from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_model

from trainers.divergence import Response, k3, policy_kl, token_log_probs, write_responses


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_k3_by_hand_and_on_average() -> None:
    policy, reference = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    each = k3(policy.log(), reference.log())
    # r = 1/2: 1/2 - 1 + log 2; r = 3/2: 3/2 - 1 - log 3/2
    assert each.tolist() == pytest.approx([0.193147, 0.094535], abs=1e-5)
    # 1/2 log 2 + 1/2 log 2/3 = 1/2 log 4/3
    assert float((policy * each).sum()) == pytest.approx(0.143841, abs=1e-5)


def test_responses_are_drawn_cut_at_their_end_and_repeated_by_the_seed(model: Path, tokenizer: Any) -> None:
    policy = load(model)
    prompts = [(5, 6, 7), (8,), (9, 10)]

    def write(seed: int, ends: list[int]) -> list[Response]:
        return write_responses(policy, tokenizer, prompts, ends, max_tokens=6, batch_size=2, seed=seed)

    found = write(1, [1])
    assert found == write(1, [1]) != write(2, [1])
    assert [item.prompt for item in found] == prompts
    assert all(item.finished == (item.completion[-1] == 1) for item in found)
    assert all(len(item.completion) == 6 or item.finished for item in found)
    second = found[0].completion[1]
    cut = write(1, [1, second])[0]
    assert cut.finished
    assert cut.completion == found[0].completion[: found[0].completion.index(second) + 1]


def test_log_probs_are_those_of_each_row_by_itself(model: Path) -> None:
    policy = load(model)
    responses = [Response((5, 6, 7), (20, 21, 1), "", True), Response((8,), (30,), "", False)]
    found = token_log_probs(policy, responses)
    for row, item in zip(found, responses, strict=True):
        with torch.no_grad():
            logits = policy(torch.tensor([[*item.prompt, *item.completion]])).logits[0].log_softmax(-1)
        expected = [
            float(logits[len(item.prompt) - 1 + at, token]) for at, token in enumerate(item.completion)
        ]
        assert row[row != 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_kl_to_itself_is_nothing_and_to_another_model_something(model: Path, tmp_path: Path) -> None:
    policy = load(model)
    responses = [Response((5, 6), (20, 21, 1), "", True), Response((8,), (30,), "", False)]
    assert policy_kl(policy, load(model), responses, 2).value == pytest.approx(0, abs=1e-6)
    found = policy_kl(policy, load(make_model(tmp_path / "other", seed=1)), responses, 1)
    assert found.value > 0
    assert found.standard_error is not None
    assert policy_kl(policy, policy, responses[:1], 1).standard_error is None

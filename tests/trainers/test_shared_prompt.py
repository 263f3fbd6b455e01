"""Pairs in one row: laid out by hand, and held against rows of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainers.pairs import score
from trainers.shared_prompt import (
    CHOSEN,
    IGNORED,
    PADDING,
    PROMPT,
    REJECTED,
    attention_mask,
    count_tokens,
    obstacle,
    shared_row,
    shared_rows,
)

PAIR = {"prompt_ids": [5, 6, 7], "chosen_ids": [8, 9], "rejected_ids": [4]}


def test_the_last_prompt_token_stands_before_either_response() -> None:
    # 7 predicts 8 and, a second time, 4; the last tokens 9 and 4 predict nothing.
    assert shared_row(PAIR, 10) == {
        "input_ids": [5, 6, 7, 8, 7],
        "position_ids": [0, 1, 2, 3, 2],
        "segments": [PROMPT, PROMPT, CHOSEN, CHOSEN, REJECTED],
        "labels": [6, 7, 8, 9, 4],
    }


def test_what_is_longer_is_cut() -> None:
    row = shared_row(PAIR, 4)
    assert (row["input_ids"], row["labels"]) == ([5, 6, 7, 7], [6, 7, 8, 4])


def test_a_pair_without_a_prompt_scores_from_the_second_token_as_any_row_does() -> None:
    row = shared_row({"prompt_ids": [], "chosen_ids": [8, 9], "rejected_ids": [4]}, 10)
    assert (row["input_ids"], row["labels"], row["segments"]) == ([8], [9], [CHOSEN])


def test_rows_are_filled_to_one_length() -> None:
    batch = shared_rows([PAIR, {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}], 0, 10)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 7], [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist()[1] == [2, 3, IGNORED, IGNORED, IGNORED]
    # [5 6 7 8 9], [5 6 7 4], [1 2] and [1 3].
    assert int(count_tokens(batch["segments"])) == 5 + 4 + 2 + 2


def test_a_response_sees_the_prompt_and_itself() -> None:
    segments = torch.tensor([[PROMPT, CHOSEN, CHOSEN, REJECTED, PADDING]])
    assert attention_mask(segments)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 0, 1],
    ]


EXAMPLES = [
    {"prompt_ids": [5, 6, 7, 20, 21], "chosen_ids": [30, 31, 1], "rejected_ids": [40, 1]},
    {"prompt_ids": [50], "chosen_ids": [60, 61, 62, 63, 64, 65, 1], "rejected_ids": [70, 71, 72, 1]},
    {"prompt_ids": [8] * 9, "chosen_ids": [9] * 9, "rejected_ids": [10]},
]


@pytest.mark.parametrize("prompt", [False, True])
def test_both_layouts_give_the_same_numbers_and_gradients(model: Path, prompt: bool) -> None:
    from transformers import AutoModelForCausalLM
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.utils import add_fused_lm_head

    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    add_fused_lm_head(network, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    padded = DataCollatorForPreference(pad_token_id=0, max_length=12)(EXAMPLES)
    found = []
    for batch in (padded, shared_rows(EXAMPLES, 0, 12)):
        network.zero_grad()
        tokens = score(network, batch, prompt=prompt)
        pairs = tokens.pairs(batch)
        (
            pairs.chosen.log_probs.sum() - 2 * pairs.rejected.log_probs.sum() + pairs.prompt.log_probs.sum()
        ).backward()
        gradient = torch.cat([weight.grad.flatten() for weight in network.parameters()])
        sides = [pairs.prompt, pairs.chosen, pairs.rejected]
        numbers = torch.stack([side.log_probs for side in sides] + [side.tokens.float() for side in sides])
        metrics = torch.tensor([float(total / count) for total, count in tokens.metrics().values()])
        found.append((numbers.detach(), metrics, gradient, int(tokens.n_tokens)))
    (numbers, metrics, gradient, count), (other_numbers, other_metrics, other_gradient, other_count) = found
    torch.testing.assert_close(numbers, other_numbers, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(metrics, other_metrics, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, other_gradient, rtol=1e-4, atol=1e-4)
    assert count == other_count
    assert bool(numbers[0].any()) == prompt


def network(attention: str = "sdpa", forward: Any = lambda self, position_ids: None, **config: Any) -> Any:
    text = SimpleNamespace(_attn_implementation=attention, **config)
    kind = type("Model", (), {"forward": forward, "config": SimpleNamespace(get_text_config=lambda: text)})
    return kind()


def test_models_that_cannot_have_such_rows_say_why() -> None:
    assert obstacle(network()) is None
    assert obstacle(network(layer_types=["full_attention"] * 2, sliding_window=None)) is None
    for model, why in (
        (network("flash_attention_2"), "flash_attention_2 takes no mask of"),
        (network(sliding_window=4096), "whole context"),
        (network(layer_types=["full_attention", "linear_attention"]), "whole context"),
        (network(output_router_logits=False), "mixture of experts"),
        (network(forward=lambda self, input_ids: None), "no positions"),
    ):
        assert why in str(obstacle(model))

"""A pair in one row: its prompt is computed once for both responses (arXiv 2410.20305).

    row        prompt without its last token | last prompt token, chosen | last prompt token, rejected
    positions  0 …                           | as in a row of its own    | the same again
    sees       itself                        | prompt and itself         | prompt and itself

Each position predicts the next token of its own segment, so the last prompt token, which predicts the first
token of both responses, stands twice; the last token of a response predicts nothing and is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

PROMPT, CHOSEN, REJECTED, PADDING = range(4)
IGNORED = -100
"""The label of a position that is not scored."""

Example = Mapping[str, list[int]]
"""`prompt_ids`, `chosen_ids`, `rejected_ids`, as TRL's tokenisation names them."""


def shared_rows(examples: Sequence[Example], pad: int, max_length: int) -> dict[str, Tensor]:
    """`input_ids position_ids segments labels` of shape (batch, longest row).

    `max_length`: tokens of prompt and response together; the end of a longer response is cut.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    fill = {"input_ids": pad, "position_ids": 0, "segments": PADDING, "labels": IGNORED}
    rows = [shared_row(example, max_length) for example in examples]
    return {
        name: pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value)
        for name, value in fill.items()
    }


def shared_row(example: Example, max_length: int) -> dict[str, list[int]]:
    """The same of one pair, as lists. `labels`: the token each position predicts."""
    prompt = example["prompt_ids"]
    start = max(0, len(prompt) - 1)
    row = {
        "input_ids": prompt[:start],
        "position_ids": list(range(start)),
        "segments": [PROMPT] * start,
        "labels": prompt[1 : start + 1],
    }
    for segment, name in ((CHOSEN, "chosen_ids"), (REJECTED, "rejected_ids")):
        sequence = (prompt + example[name])[:max_length]
        count = max(0, len(sequence) - 1 - start)
        row["input_ids"] = row["input_ids"] + sequence[start:-1]
        row["position_ids"] = row["position_ids"] + list(range(start, start + count))
        row["segments"] = row["segments"] + [segment] * count
        row["labels"] = row["labels"] + sequence[start + 1 :]
    return row


def attention_mask(segments: Tensor) -> Tensor:
    """Who sees whom, True = seen; shape (batch, 1, query, key).

    A position sees those before it and itself, in the prompt and in its own segment.
    """
    import torch

    query, key = segments[:, None, :, None], segments[:, None, None, :]
    length = segments.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return past & ((key == PROMPT) | (key == query))


def count_tokens(segments: Tensor) -> Tensor:
    """Tokens of the pairs as rows of their own, prompt and last tokens counted twice: what TRL counts."""
    return (segments == PROMPT).sum() + (segments != PADDING).sum() + 2 * segments.shape[0]


def obstacle(model: PreTrainedModel) -> str | None:
    """Why this model's attention does not allow such rows, in words; None where nothing speaks against it.

    `model`: without adapter.
    """
    config = model.config.get_text_config()
    implementation = config._attn_implementation
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if implementation != "sdpa":
        return f"attention by {implementation} takes no mask of any other shape"
    if layers != {"full_attention"} or getattr(config, "sliding_window", None):
        return "not every layer attends to the whole context"
    if hasattr(config, "output_router_logits"):
        return "a mixture of experts counts every token in its balancing loss"
    if "position_ids" not in inspect.signature(type(model).forward).parameters:
        return "the model takes no positions"
    return None

"""Several rows in one sequence: less padding, as long as no row sees another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from prefgen.errors import GateError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

PROBE_TOKENS = 32
TOLERANCES = {"torch.float32": 1e-3, "torch.bfloat16": 0.1}
"""Largest difference of a logit that rounding explains, by the type of the weights."""


def check_packing(model: PreTrainedModel, sequences: Iterable[Mapping[str, Sequence[int]]]) -> float | None:
    """Largest difference of a logit between rows packed into one sequence and the same rows alone.

    `sequences`: as TRL packs them, with `input_ids` and `seq_lengths`; the first of several rows is tried.
    None where there is none. Raises GateError where rows see each other: some models ignore position ids.
    """
    several = next((packed for packed in sequences if len(packed["seq_lengths"]) > 1), None)
    if several is None:
        return None
    first, second = several["seq_lengths"][:2]
    ids = several["input_ids"]
    rows = [ids[max(0, first - PROBE_TOKENS) : first], ids[first : first + min(second, PROBE_TOKENS)]]
    difference = packing_difference(model, rows)
    # Written so that NaN fails.
    if not difference <= TOLERANCES.get(str(model.dtype), 0.1):
        raise GateError(
            f"--packing: in this model a row sees the rows packed before it (a logit differs by "
            f"{difference:.3g}); train without --packing"
        )
    return difference


def packing_difference(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> float:
    """Rows of token ids, asked in one sequence as TRL packs them and one at a time."""
    import torch

    was_training = model.training
    model.eval()
    with torch.no_grad():
        together = model(**_batch(rows, model.device), use_cache=False).logits[0]
        alone = torch.cat([model(**_batch([ids], model.device), use_cache=False).logits[0] for ids in rows])
    model.train(was_training)
    return float((together - alone).abs().max())


def _batch(rows: Sequence[Sequence[int]], device: object) -> Mapping[str, Tensor | int]:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    ids = [token for row in rows for token in row]
    example = {"input_ids": ids, "labels": ids, "seq_lengths": [len(row) for row in rows]}
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([example])
    del batch["labels"]
    return {name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()}

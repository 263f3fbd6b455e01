"""Writes the trained model and reads it back, since a model that reloads differently was not saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefgen.errors import GateError
from trainers.config import Dtype, StageConfig
from trainers.loading import Head, load_model
from trainers.report import ReloadCheck

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOLERANCE = 1e-2
"""Largest allowed difference of a logit (or reward) between the model in memory and the one on disk."""

PROBE_TOKENS = 64
Probes = Sequence[Sequence[int]]


def save_and_check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: StageConfig,
    head: Head,
    probes: Probes,
) -> ReloadCheck:
    """Saves the model (or adapter, and merged model) with its tokenizer. Raises GateError.

    `probes`: token ids of a few rows, on which both models are asked.
    """
    model.eval()
    if not config.adapter:
        # In the type it is saved in, so that rounding is not taken for a fault.
        _round_weights(model, _saved_dtype(config))
    expected = _ask(model, probes)
    _save(model, tokenizer, config.out)
    difference = _compare(expected, load_trained(config, head), probes, model.device)
    merged = _merge(config, head, tokenizer, probes) if config.merge else None
    return ReloadCheck(rows=len(probes), max_difference=difference, merged_max_difference=merged)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    # Only adapters know the option; it keeps peft from asking the Hub whether the vocabulary grew.
    options = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)


def _saved_dtype(config: StageConfig) -> Dtype:
    return config.load_dtype if config.save_dtype == "auto" else config.save_dtype


def _round_weights(model: PreTrainedModel, dtype: Dtype) -> None:
    """`model.to(dtype)` would round the position tables as well, which a loaded model holds in float32."""
    import torch

    for weight in model.parameters():
        weight.data = weight.data.to(getattr(torch, dtype))


def load_trained(config: StageConfig, head: Head) -> PreTrainedModel:
    """What a stage left in `out`: the full model, or its adapter on the model it was trained from."""
    if not config.adapter:
        return load_model(str(config.out), head, _saved_dtype(config))
    from peft import PeftModel

    base = load_model(config.model, head, config.load_dtype, config.qlora)
    # TRL holds a QLoRA adapter in bfloat16; peft would widen it.
    return PeftModel.from_pretrained(base, str(config.out), autocast_adapter_dtype=not config.qlora)


def _merge(config: StageConfig, head: Head, tokenizer: PreTrainedTokenizerBase, probes: Probes) -> float:
    """Writes `merged/` from what was saved, and returns how far it is from that once loaded again.

    Merging itself rounds in bfloat16, so the adapter on its base is held against the merge in float32 alone.
    """
    adapted = load_trained(config.model_copy(update={"qlora": False, "lora": True}), head).eval()
    before = _ask(adapted, probes)
    merged = adapted.merge_and_unload()
    if config.load_dtype == "float32":
        _compare(before, merged, probes, merged.device)
    merged.config.pad_token_id = tokenizer.pad_token_id
    _round_weights(merged, _saved_dtype(config))
    expected = _ask(merged, probes)
    _save(merged, tokenizer, config.out / "merged")
    reloaded = load_model(str(config.out / "merged"), head, _saved_dtype(config))
    return _compare(expected, reloaded, probes, merged.device)


def _ask(model: PreTrainedModel, probes: Probes) -> list[Tensor]:
    """Logits (or a reward) for each probe, one at a time and so without padding."""
    import torch

    with torch.no_grad():
        return [
            model(torch.tensor([list(ids[:PROBE_TOKENS])], device=model.device), use_cache=False)
            .logits.float()
            .cpu()
            for ids in probes
        ]


def _compare(expected: list[Tensor], model: PreTrainedModel, probes: Probes, device: object) -> float:
    """Largest difference, computed on one device since two round differently. Raises GateError."""
    model = model if model.device == device else model.to(device)
    model.eval()
    pairs = zip(expected, _ask(model, probes), strict=True)
    difference = max(float((left - right).abs().max()) for left, right in pairs)
    # Written so that NaN fails.
    if not difference <= TOLERANCE:
        raise GateError(
            f"the saved model differs from the trained one by {difference:.3g} in a logit or reward "
            f"(allowed: {TOLERANCE}); the folder is left without training.json"
        )
    return difference

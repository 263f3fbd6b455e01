"""QLoRA as far as a machine without CUDA can show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefgen.errors import UsageError
from trainers import loading
from trainers.sft import SFTConfig


def config(**options: object) -> SFTConfig:
    return SFTConfig.model_validate(
        {"model": "m", "data": Path("d"), "out": Path("o"), "qlora": True, **options}
    )


def test_weights_are_held_in_nf4_and_multiplied_in_bfloat16() -> None:
    import torch

    options = loading._four_bits()
    assert options.load_in_4bit  # type: ignore[attr-defined]
    assert options.bnb_4bit_quant_type == "nf4"  # type: ignore[attr-defined]
    assert options.bnb_4bit_use_double_quant  # type: ignore[attr-defined]
    assert options.bnb_4bit_compute_dtype is torch.bfloat16  # type: ignore[attr-defined]


def test_an_adapter_is_trained_over_them() -> None:
    lora = loading.lora_config(config(), "language")
    assert lora is not None
    assert (lora.r, lora.lora_alpha, lora.target_modules) == (16, 32, "all-linear")


def test_each_process_loads_them_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    asked: list[object] = []
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda source, **options: asked.append(options)
    )
    monkeypatch.setenv("LOCAL_RANK", "3")
    loading.load_model("m", "language", "float32", four_bits=True)
    assert asked[0]["device_map"] == {"": 3}  # type: ignore[index]


def test_it_needs_cuda_and_whole_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="needs a CUDA device; use --lora"):
        loading.check_machine(config())
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match="--qlora holds whole weights in 4 bits, so not with FSDP"):
        loading.check_machine(config())
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(UsageError, match="pip install bitsandbytes"):
        loading.check_machine(config())

"""Tokenizers and models, loaded the way a stage needs them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prefgen.errors import ModelUnavailableError, UsageError
from prefgen.models.local import check_safetensors, reason
from trainers import processes
from trainers.config import Dtype, StageConfig
from trainers.quiet import require_packages
from trainers.trackers import check_trackers

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import Tensor
    from torch.nn import Module
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Head = Literal["language", "reward"]
"""What stands on top of the model: the vocabulary, or one number (a reward) a sequence."""

SPARE_TOKENS = ("pad", "reserved", "unused")


def check_machine(config: StageConfig) -> None:
    """Raises UsageError (MissingExtraError among them) where this machine cannot run the stage."""
    require_packages("torch", "transformers", "trl", "accelerate", *(["peft"] if config.adapter else []))
    import torch

    _check_processes(config, torch.cuda.device_count())
    check_trackers(config.report_to)
    if config.qlora and not torch.cuda.is_available():
        raise UsageError("--qlora holds the weights in 4 bits, which needs a CUDA device; use --lora here")
    if config.qlora:
        _require_bitsandbytes()
    provider, _, name = config.model.partition("/")
    if provider in ("vllm", "transformers", "scripted", "anthropic") and not Path(config.model).exists():
        hint = f": --model {name}" if provider in ("vllm", "transformers") and name else ""
        raise UsageError(
            f"--model {config.model}: a training takes a model's folder or Hugging Face id, without a "
            f"provider{hint}"
        )
    if (Path(config.model) / "adapter_config.json").is_file():
        raise UsageError(
            f"{config.model} is an adapter, not a model; train it with --merge and start from its merged/"
        )


def _check_processes(config: StageConfig, gpus: int) -> None:
    if not processes.launched():
        if config.accelerate:
            raise UsageError(
                "accelerate starts processes from the command line only; in Python, start the script itself "
                "with accelerate launch --config_file FILE and leave the option out"
            )
        if gpus > 1:
            raise UsageError(
                f"this machine has {gpus} GPUs: use them all with --accelerate ddp, or one with "
                "CUDA_VISIBLE_DEVICES=0"
            )
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but LOCAL_RANK is not set: start the processes "
                "with --accelerate ddp or accelerate launch, or unset WORLD_SIZE"
            )
    elif processes.sharded() and not gpus:
        raise UsageError(f"{processes.sharded()} splits a model over GPUs and this machine has none")
    if config.qlora and processes.sharded():
        raise UsageError(f"--qlora holds whole weights in 4 bits, so not with {processes.sharded()}; use ddp")


def _require_bitsandbytes() -> None:
    try:
        import bitsandbytes  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise UsageError("--qlora needs the package bitsandbytes; run: pip install bitsandbytes") from error


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Raises ModelUnavailableError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unavailable(model, error) from error


def choose_pad_token(tokenizer: PreTrainedTokenizerBase, head: Head) -> str | None:
    """Gives the tokenizer a token to fill batches with; a text says so where the choice matters.

    A reward is read at the last token that is not padding, so its padding must not be the end token. Raises
    UsageError where no other token is to be had.
    """
    if head == "language":
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return None
    if tokenizer.pad_token and tokenizer.pad_token != tokenizer.eos_token:
        return None
    spare = next((token for token in _spare_tokens(tokenizer) if token != tokenizer.eos_token), None)
    if spare is None:
        raise UsageError(
            "the model's tokenizer has no pad_token but its end token, at which a reward is read; set one"
        )
    tokenizer.pad_token = spare
    return f"the tokenizer has no padding token of its own; {spare} is used and saved as such"


def _spare_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    added = [str(token) for token in tokenizer.get_added_vocab()]
    spare = [token for word in SPARE_TOKENS for token in added if word in token.lower()]
    # Neither ever stands last, so neither moves the token a reward is read at.
    return [*spare, *(token for token in (tokenizer.unk_token, tokenizer.bos_token) if token)]


def load_config(model: str) -> PretrainedConfig:
    """Raises ModelUnavailableError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unavailable(model, error) from error


def longest_context(model: str) -> int | None:
    """How many positions the model was made for, None where its config does not say."""
    positions = getattr(load_config(model).get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def end_tokens(model: str, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids after which the model stops speaking; a chat model often has one more than its tokenizer says."""
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(model).eos_token_id
    except (OSError, ValueError):
        ends = None
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(item for item in (tokenizer.eos_token_id, *listed) if isinstance(item, int))


def load_model(source: str, head: Head, dtype: Dtype, four_bits: bool = False) -> PreTrainedModel:
    """A model in evaluation mode. Raises ModelUnavailableError, also for pickled weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    check_safetensors(Path(source) if Path(source).is_dir() else None, source)
    options: dict[str, object] = {
        "dtype": getattr(torch, dtype),
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    if four_bits:
        options |= {
            "quantization_config": _four_bits(),
            "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))},
        }
    try:
        if head == "language":
            return AutoModelForCausalLM.from_pretrained(source, **options)
        return AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unavailable(source, error) from error


def load_weights(
    config: StageConfig, head: Head, adapter: LoraConfig | None, weights: Mapping[str, Tensor]
) -> PreTrainedModel:
    """A whole model on the CPU with trained weights that were in shares, all of them or an adapter's.

    Raises RuntimeError where names or shapes are not the model's.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    # As long as it is set, every model that is loaded is split, by way of all processes.
    unset_hf_deepspeed_config()
    model = load_model(config.model, head, config.load_dtype)
    if adapter is None:
        model.load_state_dict(weights)
        return model
    from peft import get_peft_model

    model = get_peft_model(model, adapter)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    model.load_state_dict({name: weights[name] for name in trained}, strict=False)
    return model


def disable_dropout(model: Module) -> None:
    """A token's probability must not be another one in training than under the reference or in a rollout."""
    import torch

    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(dropout := getattr(part, "attention_dropout", None), float) and dropout:
            part.attention_dropout = 0.0


def _four_bits() -> object:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def lora_config(config: StageConfig, head: Head) -> LoraConfig | None:
    """The adapter to train, None for full training (Hu et al. 2021, arXiv 2106.09685)."""
    if not config.adapter:
        return None
    from peft import LoraConfig

    targets = list(config.lora_targets)
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM" if head == "language" else "SEQ_CLS",
    )


def _unavailable(model: str, error: Exception) -> ModelUnavailableError:
    told = reason(error, model).strip().partition("\n")[0]
    return ModelUnavailableError(
        f"cannot load {model}: {told}; expected a model's folder or a Hugging Face id"
    )

"""Tiny random models for tests: a folder with weights, tokenizer and chat template, in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SYSTEM_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CORPUS = [
    "The order was late and the parcel is broken, so please send me a refund today.",
    "Which response is better, A or B? Answer with A or B. Yes or No. true false",
    "I am sorry to hear that. We will replace it by Tuesday at no cost to you.",
    '{"verdict": "A", "score": 0, "reason": "short"} 0 1 2 3 4 5 6 7 8 9 10',
]


def make_tokenizer(chat_template: str | None = SYSTEM_TEMPLATE, pad_token: str = "<pad>") -> Any:
    """A byte-level BPE of some 400 tokens; `A` and ` A`, `B` and ` B` are tokens of their own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"],
        show_progress=False,
    )
    inner.train_from_iterator(_CORPUS * 2 + [" A B A B Yes No"] * 4, trainer)
    inner.add_special_tokens([AddedToken("</s>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token=pad_token)
    tokenizer.chat_template = chat_template
    return tokenizer


def make_causal_lm(
    folder: Path,
    seed: int = 0,
    chat_template: str | None = SYSTEM_TEMPLATE,
    context: int = 512,
    std: float = 0.15,
) -> Path:
    """A random Llama for generation, float32. `std`: the larger, the less uniform its next token."""
    return _save("LlamaForCausalLM", folder, seed, make_tokenizer(chat_template), context, std)


def make_reward_model(
    folder: Path,
    seed: int = 0,
    labels: int = 1,
    chat_template: str | None = SYSTEM_TEMPLATE,
    pad_token: str = "<pad>",
) -> Path:
    """A random Llama that scores a conversation. `pad_token="</s>"` makes padding equal to the end."""
    tokenizer = make_tokenizer(chat_template, pad_token)
    return _save("LlamaForSequenceClassification", folder, seed, tokenizer, 512, 0.15, num_labels=labels)


def save_adapter(base: Path, folder: Path) -> None:
    """A random LoRA adapter over a model of `make_causal_lm`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    torch.manual_seed(0)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


def _save(
    architecture: str, folder: Path, seed: int, tokenizer: Any, context: int, std: float, **options: Any
) -> Path:
    import torch
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=std,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, architecture)(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

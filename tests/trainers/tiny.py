"""A language model small enough to train in a test, made from nothing: random weights, its own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

PAD, END = "<|pad|>", "<|end|>"
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] -}}"
    "{%- if message['role'] == 'assistant' -%}{{- '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
SENTENCES = (
    "what is the colour of the sky today",
    "the sky is blue and the grass is green",
    "please tell me a word about the weather",
    "rain falls on the hill and the river is wide",
)


def make_tokenizer(folder: Path, template: str | None = TEMPLATE, pad: str | None = PAD) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = [PAD, END, "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=pad)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def make_model(folder: Path, template: str | None = TEMPLATE, pad: str | None = PAD, seed: int = 0) -> Path:
    """A Llama of two layers with tied embeddings in `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_tokenizer(folder, template, pad)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0 if pad else None,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def pairs(count: int) -> list[dict[str, object]]:
    """Conversations in which the good answer always is the word blue."""
    return [
        {
            "prompt": [turn("user", f"what is the colour of sky {number}")],
            "chosen": [turn("assistant", "blue")],
            "rejected": [turn("assistant", ("green", "wide", "rain", "grass")[number % 4])],
            "margin": 0.5 + number % 3,
            "confidence": 0.7 + 0.1 * (number % 3),
        }
        for number in range(count)
    ]


def labelled(count: int) -> list[dict[str, object]]:
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if good else "rejected"], "label": good}
        for number, row in enumerate(pairs(count))
        for good in [number % 3 != 0]
    ]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_run(folder: Path, train: Sequence[object], test: Sequence[object], name: str = "dpo") -> Path:
    """A complete run directory with one dataset."""
    import pyarrow
    import pyarrow.parquet

    (folder / name).mkdir(parents=True)
    for split, rows in (("train", train), ("test", test)):
        table = pyarrow.Table.from_pylist(list(rows))
        pyarrow.parquet.write_table(table, folder / name / f"{split}.parquet")
    (folder / "manifest.json").write_text("{}")
    return folder

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import make_tokenizer

from prefgen.errors import InputError, UsageError
from prefgen.messages import Message, user
from trainers.loading import choose_pad_token, end_tokens
from trainers.preflight import check_rows, encode, explain
from trainers.rows import Row

END = frozenset({1})


def chat(prompt: str, *replies: str, label: bool | None = None) -> Row:
    completions = tuple((Message("assistant", reply),) for reply in replies)
    return Row(Path("rows.jsonl"), 7, user(prompt), completions, label)


def load(folder: Path, **options: Any) -> Any:
    from transformers import AutoTokenizer

    make_tokenizer(folder, **options)
    return AutoTokenizer.from_pretrained(folder)


def test_ids_are_those_of_the_template(tokenizer: Any) -> None:
    encoded = encode(chat("sky", "blue", "green"), tokenizer)
    assert tokenizer.decode(encoded.prompt) == "<|user|>sky<|assistant|>"
    assert [tokenizer.decode(ids[encoded.shared :]) for ids in encoded.sequences] == [
        "blue<|end|>",
        "green<|end|>",
    ]
    assert encoded.shared == len(encoded.prompt)


def test_a_string_gets_one_end_token(tokenizer: Any) -> None:
    row = Row(Path("f"), 1, "sky", (" blue", " green<|end|>"))
    assert [tokenizer.decode(ids) for ids in encode(row, tokenizer).sequences] == [
        "sky blue<|end|>",
        "sky green<|end|>",
    ]


def test_every_row_is_used_or_counted(tokenizer: Any) -> None:
    long = "the sky is blue and the grass is green " * 3
    rows = [
        chat("sky", "blue", "green"),
        chat("sky", long, "green"),
        chat("sky", long + "a", long + "b"),
        chat(long, "blue", "green"),
        chat("sky", "blue", "blue"),
        chat("sky", " ", "green"),
        chat("sky", "blue", ""),
    ]
    checked = check_rows(rows, tokenizer, 20, END, keep_cut=True)
    assert checked.rows == [rows[0], rows[1], rows[6]]
    assert checked.counts() == {
        "used": 3,
        "completion_cut": 1,
        "dropped_empty_completion": 1,
        "dropped_prompt_too_long": 1,
        "dropped_same_completions": 2,
    }
    assert all(len(ids) <= 20 for ids in checked.probes)


def test_where_a_cut_answer_is_useless_it_is_dropped(tokenizer: Any) -> None:
    rows = [chat("sky", "the sky is blue " * 9, "green"), chat("sky", "blue", "green")]
    checked = check_rows(rows, tokenizer, 20, END, keep_cut=False)
    assert checked.counts() == {"used": 1, "completion_cut": 0, "dropped_too_long": 1}


def test_an_empty_answer_may_be_the_undesirable_one(tokenizer: Any) -> None:
    rows = [chat("sky", "", label=False), chat("sky", "", label=True)]
    assert check_rows(rows, tokenizer, 50, END, keep_cut=True).rows == rows[:1]


def test_a_template_that_ends_no_turn_is_told_of(tmp_path: Path) -> None:
    template = "{%- for m in messages -%}{{- '<|' + m['role'] + '|>' + m['content'] -}}{%- endfor -%}"
    template += "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
    tokenizer = load(tmp_path, template=template)
    checked = check_rows([chat("sky", "blue", "green")], tokenizer, 50, END, keep_cut=True)
    assert checked.unended == 1
    assert any("may learn never to stop" in text for text in explain(checked, tokenizer))


def test_a_prompt_that_is_rendered_otherwise_alone_is_told_of(tmp_path: Path) -> None:
    template = "{%- for m in messages -%}{{- m['content'] + '<|end|>' -}}{%- endfor -%}"
    template += "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
    tokenizer = load(tmp_path, template=template)
    checked = check_rows([chat("sky", "blue", "green")], tokenizer, 50, END, keep_cut=True)
    assert checked.unaligned == 1
    assert any("1 of 1 rows: the prompt is not how" in text for text in explain(checked, tokenizer))


def test_messages_need_a_chat_template(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, template=None)
    with pytest.raises(UsageError, match="no chat template"):
        check_rows([chat("sky", "blue")], tokenizer, 50, END, keep_cut=True)


def test_a_row_that_the_template_refuses_is_named(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, template="{{ raise_exception('no system turn') }}")
    with pytest.raises(InputError, match=r"rows.jsonl:7: .*no system turn"):
        check_rows([chat("sky", "blue")], tokenizer, 50, END, keep_cut=True)


def test_strings_for_a_chat_model_are_told_of(tokenizer: Any) -> None:
    checked = check_rows([Row(Path("f"), 1, "sky", (" blue",))], tokenizer, 50, END, keep_cut=True)
    assert any("--as-chat" in text for text in explain(checked, tokenizer))


def test_the_end_tokens_come_from_tokenizer_and_model(model: Path, tokenizer: Any) -> None:
    assert end_tokens(str(model), tokenizer) == END


def test_a_reward_is_not_padded_with_its_end_token(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, pad=None)
    assert choose_pad_token(tokenizer, "language") is None
    assert tokenizer.pad_token == tokenizer.eos_token
    assert "<|pad|>" in (choose_pad_token(tokenizer, "reward") or "")
    assert tokenizer.pad_token == "<|pad|>"


def test_a_prompt_leaves_room_for_what_is_written(tokenizer: Any) -> None:
    row = chat("sky")
    length = len(encode(row, tokenizer).prompt)
    assert check_rows([row], tokenizer, length + 5, END, keep_cut=True, reserve=5).rows == [row]
    checked = check_rows([row], tokenizer, length + 4, END, keep_cut=True, reserve=5)
    assert (checked.rows, checked.dropped) == ([], {"prompt_too_long": 1})

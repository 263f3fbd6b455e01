from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tiny import make_tokenizer

from prefgen.errors import InputError, UsageError
from prefgen.messages import Message, user
from trainers.dpo import DPOConfig
from trainers.loading import choose_pad_token, end_tokens
from trainers.preflight import Encoded, begins_twice, check_rows, encode, explain
from trainers.prepare import prepare
from trainers.rows import Row, as_trl, parse_pair
from trainers.stage import Stage

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


# ------------------------------------------------------------------------------------------ begin tokens


def with_begin(folder: Path, template: str | None = None) -> Any:
    """A tokenizer that puts <s> before every text, as Llama's does."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = load(folder, template=template)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def trl_ids(tokenizer: Any, row: Row, folder: Path) -> list[list[int]]:
    """What TRL's DPO trainer makes of a row."""
    from datasets import Dataset
    from tiny import make_model
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig as TRLConfig
    from trl import DPOTrainer

    model = AutoModelForCausalLM.from_pretrained(make_model(folder / "model"))
    model.resize_token_embeddings(len(tokenizer))
    example = {"prompt": as_trl(row.prompt), "chosen": as_trl(row.completions[0])}
    data = Dataset.from_list([example | {"rejected": as_trl(row.completions[1])}])
    arguments = TRLConfig(str(folder / "trl"), use_cpu=True, bf16=False, report_to="none", max_length=64)
    trainer = DPOTrainer(
        model, ref_model=copy.deepcopy(model), args=arguments, train_dataset=data, processing_class=tokenizer
    )
    [made] = trainer.train_dataset
    return [made["prompt_ids"] + made[side] for side in ("chosen_ids", "rejected_ids")]


ONCE = "{{- '<s>' -}}"
TURNS = "{%- for m in messages -%}{{- '<|' + m['role'] + '|>' + m['content'] + '<|end|>' -}}{%- endfor -%}"
OPEN = "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"


@pytest.mark.train
@pytest.mark.parametrize(
    ("row", "template", "begins"),
    [
        (Row(Path("f"), 1, "sky", (" blue", " green")), None, 1),
        (Row(Path("f"), 1, "<s>sky", (" blue", " green")), None, 2),
        (chat("sky", "blue", "green"), TURNS + OPEN, 0),
        (chat("sky", "blue", "green"), ONCE + TURNS + OPEN, 1),
        (chat("sky", "blue", "green"), ONCE + ONCE + TURNS + OPEN, 2),
    ],
    ids=["text", "text with its own", "template without", "template", "template twice"],
)
def test_begin_tokens_are_counted_as_trl_will_see_them(
    row: Row, template: str | None, begins: int, tmp_path: Path
) -> None:
    """TRL adds none where it applies a template, and one more where a text has one already."""
    tokenizer = with_begin(tmp_path / "tokenizer", template)
    seen = trl_ids(tokenizer, row, tmp_path)
    assert seen == [list(ids) for ids in encode(row, tokenizer).sequences]
    assert [ids[: begins + 1].count(tokenizer.bos_token_id) for ids in seen] == [begins, begins]
    checked = check_rows([row], tokenizer, 50, END, keep_cut=True)
    assert checked.doubled == (begins == 2)
    assert any("two begin tokens" in text for text in explain(checked, tokenizer)) == (begins == 2)


def test_two_begin_tokens_at_the_start_and_nowhere_else() -> None:
    assert begins_twice(Encoded((7, 7, 3), ((7, 7, 3, 4),), 3), 7)
    assert not begins_twice(Encoded((7, 3), ((7, 3, 7, 7),), 2), 7)
    assert not begins_twice(Encoded((7, 7), ((7, 7, 1),), 2), None)


# ------------------------------------------------------------------------------------------ what gets lost


def test_pairs_that_differ_in_whitespace_alone_are_told_of(tokenizer: Any) -> None:
    rows = [chat("sky", "blue sky", "blue  sky\n"), chat("sky", "blue sky", "bluesky")]
    checked = check_rows(rows, tokenizer, 50, END, keep_cut=True)
    assert (len(checked.rows), checked.spaced) == (2, 1)
    assert any("1 of 2 rows: the chosen and the rejected" in text for text in explain(checked, tokenizer))


NO_SYSTEM = TURNS.replace("{{-", "{%- if m['role'] != 'system' -%}{{-", 1).replace(
    "{%- endfor", "{%- endif -%}{%- endfor"
)
NO_ASSISTANT = NO_SYSTEM.replace("'system'", "'assistant'")


def system(row: Row) -> Row:
    from dataclasses import replace

    return replace(row, prompt=(Message("system", "be brief"), *row.prompt))  # type: ignore[arg-type]


def test_a_system_turn_that_the_template_drops_is_told_of(tmp_path: Path, tokenizer: Any) -> None:
    rows = [system(chat("sky", "blue", "green")), chat("sky", "blue", "green")]
    assert not check_rows(rows, tokenizer, 50, END, keep_cut=True).lost
    dropping = load(tmp_path, template=NO_SYSTEM + OPEN)
    checked = check_rows(rows, dropping, 50, END, keep_cut=True)
    assert checked.lost == {"system": 1}
    assert any("1 of 2 rows: the system turn is left out" in text for text in explain(checked, dropping))


def test_thoughts_may_be_left_out(tmp_path: Path) -> None:
    template = TURNS.replace("m['content']", "m['content'].split('</think>')[-1]")
    thinking = load(tmp_path, template=template + OPEN)
    row = chat("sky", "<think>hm</think>blue", "green")
    assert not check_rows([row], thinking, 50, END, keep_cut=True).lost


def refused(folder: Path, template: str, **options: object) -> None:
    from tiny import make_model, write_jsonl

    model = make_model(folder / "model", template=template)
    rows = [chat(f"sky {number}", "blue" * number, "green") for number in range(1, 5)]
    examples = [
        {
            "prompt": as_trl(row.prompt),
            "chosen": as_trl(row.completions[0]),
            "rejected": as_trl(row.completions[1]),
        }
        for row in rows
    ]
    values = {
        "model": str(model),
        "data": write_jsonl(folder / "rows.jsonl", examples),
        "out": folder / "out",
    }
    config = DPOConfig.model_validate(values | {"eval_share": 0} | options)
    stage = Stage(
        name="dpo", folder="dpo", parse=parse_pair, columns=lambda row: {}, build=lambda setup: None
    )  # type: ignore[arg-type, return-value]
    prepare(config, stage, (config.data, None))


def test_a_template_that_drops_what_is_to_be_learnt_is_refused(tmp_path: Path) -> None:
    marked = NO_ASSISTANT.replace("{%- endif -%}", "{%- else -%}{{- m['content'][:2] -}}{%- endif -%}")
    with pytest.raises(UsageError, match="leaves out text of the assistant's turn in 4 of 4 rows"):
        refused(tmp_path, marked + OPEN)


def test_rows_of_which_none_ends_are_refused_unless_told(tmp_path: Path) -> None:
    endless = TURNS.replace(" + '<|end|>'", "") + OPEN
    with pytest.raises(UsageError, match=r"no completion of the 4 rows has an end token.*--allow-no-end"):
        refused(tmp_path, endless)
    refused(tmp_path / "told", endless, allow_no_end=True)

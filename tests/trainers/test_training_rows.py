from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tiny import pairs, turn, write_jsonl, write_run

from prefgen.errors import InputError, UsageError
from prefgen.messages import user
from trainers.rows import (
    Row,
    distinct_prompts,
    find_files,
    parse_demonstration,
    parse_labelled,
    parse_pair,
    parse_prompt,
    read_rows,
    split_by_prompt,
)

PAIR = {"prompt": "hi", "chosen": " good", "rejected": " bad"}
LABELLED = {"prompt": "hi", "completion": " good", "label": True}


def read(
    tmp_path: Path, rows: list[dict[str, object]], parse: Callable[..., Row], **options: bool
) -> list[Row]:
    return read_rows(write_jsonl(tmp_path / "rows.jsonl", rows), parse, options.get("as_chat", False))


def test_strings_stay_strings(tmp_path: Path) -> None:
    [row] = read(tmp_path, [PAIR], parse_pair)
    assert (row.prompt, row.completions, row.conversational) == ("hi", (" good", " bad"), False)


def test_as_chat_makes_turns_of_strings(tmp_path: Path) -> None:
    [row] = read(tmp_path, [PAIR], parse_pair, as_chat=True)
    assert row.conversational
    assert [(turn.role, turn.content) for side in row.completions for turn in side] == [  # type: ignore[union-attr]
        ("assistant", "good"),
        ("assistant", "bad"),
    ]


def test_the_same_prompt_has_one_hash_in_either_form(tmp_path: Path) -> None:
    plain, chat = (read(tmp_path, [PAIR], parse_pair, as_chat=as_chat)[0] for as_chat in (False, True))
    assert plain.prompt_hash == chat.prompt_hash


@pytest.mark.parametrize(("seen", "label"), [(True, True), (0, False), ("True", True), ("0", False)])
def test_labels(tmp_path: Path, seen: object, label: bool) -> None:
    assert read(tmp_path, [{**LABELLED, "label": seen}], parse_labelled)[0].label is label


def test_of_a_conversation_the_last_turn_is_learnt(tmp_path: Path) -> None:
    turns = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")]
    [row] = read(tmp_path, [{"messages": turns}], parse_demonstration)
    assert [message.content for message in row.prompt] == ["a", "b", "c"]  # type: ignore[union-attr]
    assert row.completions[0][0].content == "d"  # type: ignore[union-attr]


def test_the_chosen_side_of_a_pair_is_a_demonstration(tmp_path: Path) -> None:
    assert read(tmp_path, [PAIR], parse_demonstration)[0].completions == (" good",)


@pytest.mark.parametrize(
    ("parse", "row", "message"),
    [
        (parse_pair, {"prompt": "hi", "chosen": "a"}, "no column 'rejected'"),
        (parse_pair, {**PAIR, "prompt": " "}, "the prompt is empty"),
        (parse_pair, {**PAIR, "chosen": 3}, "a bad chosen"),
        (parse_pair, {**PAIR, "rejected": [turn("user", "x")]}, "a bad rejected"),
        (parse_pair, {**PAIR, "rejected": [turn("robot", "x"), turn("assistant", "y")]}, "role 'robot'"),
        (parse_pair, {**PAIR, "rejected": [turn("assistant", "x")]}, "strings and messages are mixed"),
        (partial(parse_pair, margin=True), PAIR, "no column 'margin'"),
        (partial(parse_pair, margin=True), {**PAIR, "margin": "big"}, "a bad margin"),
        (partial(parse_pair, margin=True), {**PAIR, "margin": None}, "a bad margin"),
        (parse_labelled, {**LABELLED, "label": "good"}, "a bad label"),
        (parse_labelled, {**LABELLED, "label": 2}, "a bad label"),
        (parse_labelled, {**LABELLED, "label": None}, "a bad label"),
        (parse_demonstration, {"prompt": "hi"}, "no column 'completion'"),
        (parse_demonstration, {"messages": [turn("user", "x")]}, "bad messages"),
        (parse_demonstration, {"messages": [turn("user", "x"), turn("user", "y")]}, "bad messages"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, parse: Callable[..., Row], row: dict[str, object], message: str
) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c", "completion": "d", "label": True, "margin": 1}
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, [good, row], parse)
    assert "rows.jsonl:2:" in str(error.value)


# ------------------------------------------------------------------------------------- where the rows are


def test_a_run_directory_gives_its_two_splits(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", pairs(4), pairs(2))
    train, test = find_files(run, "dpo", None)
    assert test is not None
    assert len(read_rows(train, parse_pair, False)) == 4
    assert len(read_rows(test, parse_pair, False)) == 2
    assert find_files(run, "dpo", Path("mine.jsonl")) == (train, Path("mine.jsonl"))


def test_an_empty_test_split_counts_as_none(tmp_path: Path) -> None:
    assert find_files(write_run(tmp_path / "run", pairs(4), []), "dpo", None)[1] is None


def test_a_run_without_its_manifest_is_not_complete(tmp_path: Path) -> None:
    (write_run(tmp_path / "run", pairs(4), []) / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"not a complete run directory.*--resume"):
        find_files(tmp_path / "run", "dpo", None)


def test_a_run_without_this_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kto dataset"):
        find_files(write_run(tmp_path / "run", pairs(4), []), "kto", None)


# ------------------------------------------------------------------------------------- splits


def rows_of(prompts: list[str]) -> list[Row]:
    return [Row(Path("f"), line, prompt, ("a", "b")) for line, prompt in enumerate(prompts, 1)]


def test_no_prompt_is_on_both_sides() -> None:
    rows = rows_of([f"prompt {number % 40}" for number in range(120)])
    train, held_out = split_by_prompt(rows, 0.1)
    assert {row.prompt for row in train}.isdisjoint(row.prompt for row in held_out)
    assert len({row.prompt for row in held_out}) == 4
    assert sorted([*train, *held_out], key=lambda row: row.line) == rows


def test_a_small_share_still_holds_one_prompt_out() -> None:
    assert len(split_by_prompt(rows_of(["a", "b"]), 0.01)[1]) == 1
    assert split_by_prompt(rows_of(["a", "a"]), 0.5)[1] == []
    assert split_by_prompt(rows_of(["a", "b"]), 0)[1] == []


def test_the_split_depends_on_the_prompts_alone() -> None:
    prompts = [f"prompt {number}" for number in range(50)]
    one, other = (split_by_prompt(rows_of(order), 0.2)[1] for order in (prompts, prompts[::-1]))
    assert {row.prompt for row in one} == {row.prompt for row in other}


def test_csv_and_json_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion,label\nhi,good,true\nhi,bad,false\n")
    assert [row.label for row in read_rows(tmp_path / "rows.csv", parse_labelled, False)] == [True, False]
    (tmp_path / "rows.json").write_text(json.dumps([PAIR]))
    assert len(read_rows(tmp_path / "rows.json", parse_pair, False)) == 1


def test_prompts_are_turns_with_their_columns_and_stand_once(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "prompts.jsonl",
        [
            {"prompt": "one", "answer": "1"},
            {"prompt": "two", "answer": "2"},
            {"prompt": "one", "answer": "3"},
        ],
    )
    found = distinct_prompts(read_rows(path, parse_prompt, as_chat=False))
    assert [(row.prompt, row.completions, row.columns) for row in found] == [
        (user("one"), (), {"answer": "1"}),
        (user("two"), (), {"answer": "2"}),
    ]

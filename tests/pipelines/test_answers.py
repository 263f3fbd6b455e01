"""Files of answers: which prompt a row belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from running import write_prompts

from pipelines.evaluation.answers import as_file, check_side, read_answers
from prefgen.errors import InputError, UsageError
from prefgen.messages import messages_hash, user
from prefgen.prompt import Prompt

NAMED = [Prompt("x", user("What?")), Prompt("y", user("Why?"))]
UNNAMED = [Prompt(messages_hash(item.messages), item.messages) for item in NAMED]


def read(folder: Path, prompts: list[Prompt], *rows: Mapping[str, Any]) -> dict[str, str | None]:
    return read_answers(write_prompts(folder / "answers.jsonl", rows), prompts)


def test_by_id_in_any_order(tmp_path: Path) -> None:
    rows = ({"id": "y", "response": "b"}, {"id": "x", "response": ""})
    assert read(tmp_path, NAMED, *rows) == {"x": "", "y": "b"}


@pytest.mark.parametrize("prompts", [NAMED, UNNAMED])
def test_by_prompt(prompts: list[Prompt], tmp_path: Path) -> None:
    rows = ({"prompt": "Why?", "response": "b"}, {"prompt": "What?", "response": "a"})
    assert list(read(tmp_path, prompts, *rows).values()) == ["b", "a"]


def test_by_prompt_where_the_ids_are_others(tmp_path: Path) -> None:
    rows = (
        {"id": 1, "prompt": "What?", "response": "a"},
        {"id": 2, "prompt": [{"role": "user", "content": "Why?"}], "response": "b"},
    )
    assert read(tmp_path, NAMED, *rows) == {"x": "a", "y": "b"}


def test_null_is_no_answer_and_other_prompts_are_left_aside(tmp_path: Path) -> None:
    rows = ({"id": "x", "response": None}, {"id": "y", "response": "b"}, {"id": "z", "response": "c"})
    assert read(tmp_path, NAMED, *rows) == {"x": None, "y": "b"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "x", "response": "a"}], "no answer to 1 of 2 prompts, the first being 'y'"),
        ([{"id": "x", "response": "a"}, {"id": "x", "response": "b"}], ":2: a second answer"),
        ([{"id": "x", "prompt": "Why?", "response": "a"}], ":1: the id 'x' stands for another prompt"),
        ([{"id": "x", "output": "a"}], "no column 'response'"),
        ([{"id": "x", "response": 3}], "response is not text"),
        ([{"response": "a"}], "no column 'id'"),
        ([{"id": True, "response": "a"}], "a bad id"),
        ([{"prompt": "", "response": "a"}], "a prompt that cannot be used"),
    ],
)
def test_answers_that_cannot_be_used(rows: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, NAMED, *rows)
    assert said in str(refused.value)


def test_a_side_is_a_file_or_a_model() -> None:
    assert as_file("runs/answers.jsonl") == Path("runs/answers.jsonl")
    assert as_file("vllm/models/new") is None
    with pytest.raises(UsageError, match="unknown provider"):
        check_side("runs/answers", NAMED)
    with pytest.raises(InputError, match="no such file"):
        check_side("nowhere.jsonl", NAMED)

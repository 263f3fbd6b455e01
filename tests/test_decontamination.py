"""Decontamination: copies and lightly edited copies are found, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from prefgen.decontamination import EvalIndex, EvalItem, read_eval_items, words
from prefgen.errors import InputError

VERBS = ("explain", "compare", "describe", "list", "derive", "translate", "rank", "check", "plan")
STEMS, ENDS = ("rain", "stone", "cloud", "river", "moon"), ("gate", "field", "works", "er")
THINGS = [stem + end for stem in STEMS for end in ENDS]
JOINTS = ("of the", "with a", "and then", "for every", "in the old", "without any", "near the")


def question(draw: random.Random, length: int) -> str:
    """Varied questions that share words and short phrases, as real ones do."""
    parts = ["Please", draw.choice(VERBS)]
    while len(parts) < length:
        parts += [draw.choice(THINGS), *draw.choice(JOINTS).split()]
    return " ".join(parts[:length]) + "?"


def index_of(*texts: str) -> EvalIndex:
    return EvalIndex(EvalItem("eval.jsonl", line, text) for line, text in enumerate(texts, start=1))


def edited(text: str, draw: random.Random, *, evenly: bool) -> str:
    """One word of every ten exchanged: the tenth, or any one."""
    told = text.split()
    for start in range(0, len(told), 10):
        place = start + (9 if evenly else draw.randrange(10))
        if place < len(told):
            told[place] = f"edit{start}"
    return " ".join(told)


@pytest.fixture(scope="module")
def questions() -> list[str]:
    draw = random.Random(1)
    return [question(draw, draw.randrange(40, 90)) for _ in range(300)]


@pytest.mark.parametrize("change", ["verbatim", "shouted", "evenly", "anywhere"])
def test_every_copy_is_found(questions: list[str], change: str) -> None:
    draw, index = random.Random(2), index_of(*questions)
    for line, text in enumerate(questions, start=1):
        copy = {
            "verbatim": text,
            "shouted": f"  {text.upper()}\n!!",
            "evenly": edited(text, draw, evenly=True),
            "anywhere": edited(text, draw, evenly=False),
        }[change]
        assert [overlap.item.line for overlap in index.overlaps(copy)] == [line], text


def test_a_clean_set_has_none(questions: list[str]) -> None:
    draw, index = random.Random(3), index_of(*questions)
    others = [question(draw, draw.randrange(40, 90)) for _ in range(300)]
    assert not [text for text in others if index.overlaps(text)]


def test_the_share_is_of_the_items_words() -> None:
    """Of 16 words the first 9 are shared: 9/16. Of 18 they are half, which is not more than half."""
    start = "one two three four five six seven eight nine"
    index = index_of(f"{start} a b c d e f g", f"{start} a b c d e f g h i")
    (overlap,) = index.overlaps(f"as they say {start} and so on")
    assert (overlap.item.line, overlap.share) == (1, 9 / 16)


def test_runs_of_four_count_only_beside_an_eight_gram() -> None:
    item = "a b c d e f g X h i j k"
    index = index_of(item)
    assert not index.overlaps("a b c d e f g Y h i j k")  # 11 of 12 words, but 7 in a row at most.
    longer = index_of("z " + item)
    (overlap,) = longer.overlaps("z a b c d e f g Y h i j k")
    assert overlap.share == 12 / 13


def test_runs_count_where_the_8_gram_says_only() -> None:
    """The same runs in another order are another text; a word more or less between them is an edit."""
    parts = ["a b c d e f g h", "i j k l", "m n o p", "q r s t"]
    index = index_of(" ".join(parts))
    assert not index.overlaps(" ".join(reversed(parts)))
    (overlap,) = index.overlaps(" x ".join(parts))
    assert overlap.share == 1.0


def test_shares_of_two_prompts_do_not_add_up() -> None:
    told = [f"w{number}" for number in range(24)]
    index = index_of(" ".join(told))
    first, second = " ".join(told[:12]), " ".join(told[12:])
    assert not index.overlaps(first)
    assert not index.overlaps(second)
    assert index.overlaps(first, second), "two messages of one prompt do"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is the capital of France?", True),
        ("what is the CAPITAL of france", True),
        ("What is the capital of Spain?", False),
        ("Tell me: what is the capital of France?", False),
    ],
)
def test_short_items_must_be_equal(text: str, found: bool) -> None:
    assert bool(index_of("What is the capital of France?").overlaps(text)) is found


def test_scripts_without_spaces_have_words_too() -> None:
    assert words("日本の首都 is Tokyo") == ["日", "本", "の", "首", "都", "is", "tokyo"]
    assert words("ﬁne Ｘ") == ["fine", "x"]
    assert index_of("日本の首都はどこですか").overlaps("日本の首都はどこですか？")


@pytest.mark.parametrize("column", ["prompt", "question", "text"])
def test_the_column_is_found(tmp_path: Path, column: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps({"id": 1, column: "What now?"}) + "\n")
    assert [item.text for item in read_eval_items(path)] == ["What now?"]


def test_a_named_column_and_messages(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps({"prompt": "no", "q": [{"role": "user", "content": "Yes?"}]}) + "\n")
    assert list(read_eval_items(path, "q")) == [EvalItem(str(path), 1, "Yes?")]


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        ({"answer": "x"}, None, "no column to compare"),
        ({"prompt": "x"}, "question", "no column 'question'"),
        ({"prompt": 3}, None, "is not text"),
        ({"prompt": "?!"}, None, "at least one word"),
        ({"prompt": [{"role": "user"}]}, None, "is not text"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict[str, object], column: str | None, said: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError) as error:
        list(read_eval_items(path, column))
    assert f"{path}:1" in str(error.value)
    assert said in str(error.value)

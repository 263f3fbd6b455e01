"""Label files: several annotators, majorities, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefgen.errors import InputError
from prefgen.labels import read_labels, read_pairs

ROW = {"id": "1", "prompt": "q", "response_a": "x", "response_b": "y", "label": "a"}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_several_rows_of_one_id_are_several_annotators(tmp_path: Path) -> None:
    path = write(tmp_path / "l.jsonl", ROW, ROW | {"label": "b"}, ROW | {"label": "a"}, ROW | {"id": "2"})
    first, second = read_labels(path)
    assert (first.labels, first.majority) == (("a", "b", "a"), "a")
    assert (second.labels, second.majority) == (("a",), "a")


@pytest.mark.parametrize(
    ("labels", "majority"), [(("a", "b"), "tie"), (("a", "b", "tie"), "tie"), (("b", "b", "tie"), "b")]
)
def test_no_majority_is_a_tie(tmp_path: Path, labels: tuple[str, ...], majority: str) -> None:
    path = write(tmp_path / "l.jsonl", *(ROW | {"label": label} for label in labels))
    assert read_labels(path)[0].majority == majority


def test_responses_of_one_text_are_still_two_candidates(tmp_path: Path) -> None:
    (pair,) = read_pairs(write(tmp_path / "p.jsonl", ROW | {"response_b": "x"}))
    assert pair.a.id != pair.b.id


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW | {"label": "A"}, "a, b or tie"),
        (ROW | {"response_a": True}, "a string"),
        (ROW | {"prompt": ""}, "prompt"),
        ({key: value for key, value in ROW.items() if key != "response_b"}, "response_b"),
        (ROW | {"id": None}, "bad id"),
        (ROW | {"response_a": "another"}, "different prompts or responses"),
    ],
)
def test_refused_rows_name_the_line(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "l.jsonl", ROW, row)
    with pytest.raises(InputError, match=r"l\.jsonl:2") as refused:
        read_labels(path)
    assert words in str(refused.value)


def test_a_pair_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="twice"):
        list(read_pairs(write(tmp_path / "p.jsonl", ROW, ROW)))

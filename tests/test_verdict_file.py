"""Recorded verdicts: what a row means, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from prefgen.errors import InputError
from prefgen.verdict_file import RecordedVerdict, read_verdicts


def read(tmp_path: Path, *rows: dict[str, Any]) -> list[RecordedVerdict]:
    path = tmp_path / "v.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_verdicts(path)


def test_a_row_of_each_kind(tmp_path: Path) -> None:
    stated, bare, tie, failed = read(
        tmp_path,
        {"id": 7, "verdict": "b", "p_a": 0.25, "order": "ba", "judge": "x"},
        {"id": "8", "verdict": "b"},
        {"id": "9", "verdict": "tie", "p_a": None, "order": None},
        {"id": "10", "verdict": None, "p_a": 0.9, "principles": {"tone": 0.9}},
    )
    assert stated == RecordedVerdict("7", "b", pytest.approx(-math.log(3)), "ba", "x")  # type: ignore[arg-type]
    assert stated.value == pytest.approx(-math.log(3))
    assert (bare.value, tie.value) == (-1.0, 0.0)
    assert failed.value is None
    assert not failed.principles


def test_certainty_is_kept_finite(tmp_path: Path) -> None:
    sure, never = read(tmp_path, *({"id": 1, "verdict": "a", "p_a": p} for p in (1, 0)))
    assert sure.value == pytest.approx(-(never.value or 0))
    assert 13 < (sure.value or 0) < 14


def test_a_verdict_against_its_own_probability_is_known(tmp_path: Path) -> None:
    wrong, right, undecided = read(
        tmp_path,
        {"id": 1, "verdict": "a", "p_a": 0.2},
        {"id": 1, "verdict": "a", "p_a": 0.8},
        {"id": 1, "verdict": "tie", "p_a": 0.8},
    )
    assert [item.contradicts_itself for item in (wrong, right, undecided)] == [True, False, False]


def test_principles_are_read_as_log_odds(tmp_path: Path) -> None:
    (told,) = read(tmp_path, {"id": 1, "verdict": "a", "principles": {"tone": 0.75, "truth": 0.5}})
    assert told.principles == {"tone": pytest.approx(math.log(3)), "truth": 0.0}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": 1, "verdict": "garbage"}, ["not a known verdict", "garbage", "a, b, tie, or null"]),
        ({"id": 1, "verdict": True}, ["not a known verdict", "True"]),
        ({"id": 1, "verdict": 1}, ["not a known verdict"]),
        ({"id": 1}, ["no column 'verdict'"]),
        ({"id": True, "verdict": "a"}, ["a bad id"]),
        ({"id": None, "verdict": "a"}, ["a bad id"]),
        ({"id": 1, "verdict": "a", "p_a": 1.2}, ["p_a is not a probability", "1.2"]),
        ({"id": 1, "verdict": "a", "p_a": True}, ["p_a is not a probability"]),
        ({"id": 1, "verdict": "a", "p_a": "high"}, ["p_a is not a probability", "high"]),
        ({"id": 1, "verdict": "a", "order": "first"}, ["not a known order"]),
        ({"id": 1, "verdict": "a", "judge": ["x"]}, ["a bad judge"]),
        ({"id": 1, "verdict": "a", "principles": [0.1]}, ["principles is not an object"]),
        ({"id": 1, "verdict": "a", "principles": {"tone": 7}}, ["tone is not a probability"]),
    ],
)
def test_what_is_no_verdict_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, {"id": 0, "verdict": "a"}, row)
    assert all(word in str(refused.value) for word in ["v.jsonl:2", *words]), str(refused.value)


def test_csv_has_empty_cells_for_null(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("id,verdict,p_a,order\n1,a,0.75,ab\n2,,,\n")
    first, second = read_verdicts(path)
    assert first.value == pytest.approx(math.log(3))
    assert (second.verdict, second.value, second.order) == (None, None, None)

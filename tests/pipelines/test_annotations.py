"""Annotations: written, read back, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from running import write_prompts

from pipelines.evaluation.annotations import Annotation, as_lines, read_annotations
from prefgen.errors import InputError

ROW: Mapping[str, Any] = {"id": "1", "preference": 0.7, "length_model": 10, "length_baseline": 8}


def read(folder: Path, *rows: Mapping[str, Any]) -> list[Annotation]:
    return read_annotations(write_prompts(folder / "a.jsonl", rows))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = [
        Annotation("1", 0.7, 10, 8, 0.5, "c", 0.8, 0.6, "q", "", "theirs"),
        Annotation("2", None, 0, 8, -1.0, response_baseline="x\ny", failure="refusal"),
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(as_lines(written))
    assert read_annotations(path) == written


def test_the_four_columns_are_enough(tmp_path: Path) -> None:
    assert read(tmp_path, ROW) == [Annotation("1", 0.7, 10, 8)]


def test_a_failure_needs_no_lengths(tmp_path: Path) -> None:
    failed = dict.fromkeys(ROW, None) | {"id": 7}
    assert read(tmp_path, failed) == [Annotation("7", None, 0, 0)]


def test_numbers_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,preference,length_model,length_baseline,cluster\n1,0.7,10,8,x\n2,,10,8,\n")
    assert read_annotations(path) == [
        Annotation("1", 0.7, 10, 8, cluster="x"),
        Annotation("2", None, 10, 8),
    ]
    path.write_text("id,preference,length_model,length_baseline\n1,high,10,8\n")
    with pytest.raises(InputError, match=r"a\.csv:2: preference is not a number"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preference": True}, "preference is not a number"),
        ({"preference": "0.5"}, "preference is not a number"),
        ({"preference": [0.5]}, "preference is not a number"),
        ({"preference": -0.1}, "outside of 0..1"),
        ({"preference": 2}, "subtract 1"),
        ({"preference": 70}, "outside of 0..1"),
        ({"length_model": -1}, "length_model is not a length"),
        ({"length_model": None}, "length_model is not a length"),
        ({"length_baseline": 1.5}, "length_baseline is not a length"),
        ({"length_baseline": True}, "length_baseline is not a number"),
        ({"difficulty": "hard"}, "difficulty is not a number"),
        ({"cluster": 1.5}, "a bad id"),
        ({"id": None}, "a bad id"),
    ],
)
def test_bad_values_are_named_with_their_line(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, dict(ROW) | {"id": "0"}, dict(ROW) | wrong)
    assert said in str(refused.value)
    assert refused.value.line == 2


def test_nan_in_a_parquet_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.Table.from_pylist([dict(ROW), dict(ROW) | {"id": "2", "preference": float("nan")}]), path
    )
    with pytest.raises(InputError, match="preference is not a number"):
        read_annotations(path)


def test_missing_columns_and_ids_given_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'length_baseline'"):
        read(tmp_path, {"id": "1", "preference": 0.5, "length_model": 3})
    with pytest.raises(InputError, match="twice"):
        read(tmp_path, ROW, ROW)


def test_difficulty_in_some_rows_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of 2 rows have no difficulty"):
        read(tmp_path, ROW, dict(ROW) | {"id": "2", "difficulty": 1})

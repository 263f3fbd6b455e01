"""Columns carried from the prompt file, and the rows of the datasets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import PROMPT, candidate

from prefgen.messages import Json, Message
from prefgen.pairing import KTORow
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.rows import CarriedColumns, dpo_row, dpo_schema, kto_row, kto_schema

PAIR = Preference(PROMPT, candidate("good", 0), candidate("bad", 1), 2.0, 0.88)


def carried(*rows: Mapping[str, Json]) -> pa.Table:
    """These columns as a table of the dataset, through the real row and schema."""
    columns = CarriedColumns()
    for row in rows:
        columns.see(row)
    made = [dpo_row(PAIR, "conversational") | columns.values(row) for row in rows]
    return pa.Table.from_pylist(made, dpo_schema("conversational", columns))


def values(*cells: Json) -> list[Any]:
    found: list[Any] = carried(*({"x": cell} for cell in cells))["x"].to_pylist()
    return found


def test_types_that_agree_are_kept() -> None:
    assert values("a", None, "b") == ["a", None, "b"]
    assert values(1, 2, None) == [1, 2, None]
    assert values(1.5, 2) == [1.5, 2.0]
    assert values(True, False) == [True, False]
    assert values(None, None) == [None, None]


def test_mixed_types_are_json_text() -> None:
    assert values(1, "one", None, True) == ["1", '"one"', None, "true"]
    assert values(True, 1) == ["true", "1"]
    assert values({"a": [1]}, [2]) == ['{"a": [1]}', "[2]"]


def test_integers_that_a_column_can_hold_are_exact() -> None:
    assert values(2**63 - 1, -(2**63), 5) == [2**63 - 1, -(2**63), 5]
    assert values(2**53 + 1) == [2**53 + 1]


def test_integers_that_no_column_can_hold_are_json_text() -> None:
    assert values(2**63, 1) == [str(2**63), "1"]
    assert values(10**40) == [str(10**40)]


def test_a_long_integer_among_fractions_is_not_rounded() -> None:
    assert values(2**53 + 1, 0.5) == [str(2**53 + 1), "0.5"]


NAMES = st.sampled_from(
    ["group", "label", "prompt_label", "prompt_prompt_label", "margin", "score", "id", "x", ""]
)
CELLS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.integers())
)


@given(st.lists(st.dictionaries(NAMES, CELLS), min_size=1, max_size=5))
def test_any_columns_can_be_carried_and_none_is_lost(rows: list[dict[str, Json]]) -> None:
    try:
        json.dumps(rows, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # Such a row is refused at the door.
    table = carried(*rows)
    names = table.column_names
    assert len(set(names)) == len(names)
    own = len(dpo_schema("conversational", CarriedColumns()).names)
    assert len(names) - own == len({name for row in rows for name in row})


def test_names_the_dataset_has_are_published_under_another() -> None:
    table = carried({"margin": 7, "prompt_margin": 8, "group": "g", "chosen": "c"})
    row = table.to_pylist()[0]
    assert row["margin"] == 2.0
    assert row["prompt_margin"] == 8
    assert row["prompt_prompt_margin"] == 7
    assert row["group"] == "g"
    assert row["prompt_chosen"] == "c"


def test_a_row_without_a_column_others_have() -> None:
    table = carried({"x": 1}, {"y": "b"})
    assert [(row["x"], row["y"]) for row in table.to_pylist()] == [(1, None), (None, "b")]


def test_nan_from_a_parquet_file_is_carried() -> None:
    assert math.isnan(values(math.nan, 1.0)[0])


def test_conversational_rows() -> None:
    row = dpo_row(PAIR, "conversational")
    assert row["prompt"] == [{"role": "user", "content": PROMPT.text}]
    assert row["chosen"] == [{"role": "assistant", "content": "good"}]
    assert row["rejected"] == [{"role": "assistant", "content": "bad"}]
    label = kto_row(KTORow(PROMPT, PAIR.rejected, False, -1.0), "conversational")
    assert label["completion"] == [{"role": "assistant", "content": "bad"}]
    assert label["label"] is False


def test_standard_rows() -> None:
    several = Prompt("p1", (Message("system", "be kind"), Message("user", "hi")))
    row = dpo_row(Preference(several, PAIR.chosen, PAIR.rejected, 1.0, 0.7), "standard")
    assert row["prompt"] == "system: be kind\n\nuser: hi"
    assert (row["chosen"], row["rejected"]) == ("good", "bad")


@pytest.mark.parametrize("format", ["conversational", "standard"])
def test_schemas_hold_the_contracts_columns(format: Any) -> None:
    dpo = [
        "prompt",
        "chosen",
        "rejected",
        "pair_id",
        "prompt_id",
        "chosen_id",
        "rejected_id",
        "margin",
        "confidence",
        "slot_bias",
    ]
    kto = ["prompt", "completion", "label", "prompt_id", "candidate_id", "score"]
    assert dpo_schema(format, CarriedColumns()).names == dpo
    assert kto_schema(format, CarriedColumns()).names == kto

"""Rows of the published datasets, and the columns they carry over from the prompt file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa

from prefgen.messages import Json, as_dicts
from prefgen.pairing import KTORow
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.tables import MESSAGES

Format = Literal["conversational", "standard"]
_DPO = ["pair_id", "prompt_id", "chosen_id", "rejected_id"]
_KTO = ["prompt_id", "candidate_id"]
_RESERVED = {
    *_DPO,
    *_KTO,
    "prompt",
    "chosen",
    "rejected",
    "completion",
    "label",
    "margin",
    "slot_bias",
    "confidence",
    "score",
}


def dpo_schema(format: Format, carried: CarriedColumns) -> pa.Schema:
    text = MESSAGES if format == "conversational" else pa.string()
    fields = [("prompt", text), ("chosen", text), ("rejected", text)]
    fields += [(name, pa.string()) for name in _DPO]
    fields += [(name, pa.float64()) for name in ("margin", "confidence", "slot_bias")]
    return pa.schema([*fields, *carried.fields()])


def kto_schema(format: Format, carried: CarriedColumns) -> pa.Schema:
    text = MESSAGES if format == "conversational" else pa.string()
    fields = [("prompt", text), ("completion", text), ("label", pa.bool_())]
    fields += [(name, pa.string()) for name in _KTO]
    fields += [("score", pa.float64())]
    return pa.schema([*fields, *carried.fields()])


def dpo_row(preference: Preference, format: Format) -> dict[str, Any]:
    return {
        "prompt": _prompt(preference.prompt, format),
        "chosen": _answer(preference.chosen.text, format),
        "rejected": _answer(preference.rejected.text, format),
        "pair_id": preference.id,
        "prompt_id": preference.prompt.id,
        "chosen_id": preference.chosen.id,
        "rejected_id": preference.rejected.id,
        "margin": preference.margin,
        "slot_bias": preference.slot_bias,
        "confidence": preference.confidence,
    }


def as_text(value: str | list[dict[str, str]]) -> str:
    """A prompt or response as a row of either format holds it, as one string."""
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return value[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in value)


def kto_row(row: KTORow, format: Format) -> dict[str, Any]:
    return {
        "prompt": _prompt(row.prompt, format),
        "completion": _answer(row.candidate.text, format),
        "label": row.label,
        "prompt_id": row.prompt.id,
        "candidate_id": row.candidate.id,
        "score": row.score,
    }


def _prompt(prompt: Prompt, format: Format) -> str | list[dict[str, str]]:
    return as_dicts(prompt.messages) if format == "conversational" else prompt.text


def _answer(text: str, format: Format) -> str | list[dict[str, str]]:
    return [{"role": "assistant", "content": text}] if format == "conversational" else text


class CarriedColumns:
    """The prompt file's other columns with one type each: text, integer, number or truth value where
    every row agrees, else JSON text. A name the dataset has itself is published as `prompt_NAME`, and
    where the file has that name too, with one more `prompt_` before it."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[type]] = {}

    def see(self, columns: Mapping[str, Json]) -> None:
        for name, value in columns.items():
            kinds = self._kinds.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))

    def fields(self) -> list[tuple[str, pa.DataType]]:
        names = self._names()
        return [(names[name], self._type(name)) for name in self._kinds]

    def _names(self) -> dict[str, str]:
        """The published name of each column, all different; a name that is free stays as it is."""
        names = {name: name for name in self._kinds if name not in _RESERVED}
        taken = {*names, *_RESERVED}
        for name in self._kinds:
            published = name
            while published in taken and name not in names:
                published = f"prompt_{published}"
            names.setdefault(name, published)
            taken.add(published)
        return names

    def values(self, columns: Mapping[str, Json]) -> dict[str, Any]:
        """A row's carried values under their published names."""
        names = self._names()
        return {names[name]: self._value(name, columns.get(name)) for name in self._kinds}

    def _value(self, name: str, value: Json) -> Json:
        if value is None or self._type(name) != pa.string() or self._kinds[name] == {str}:
            return value
        return json.dumps(value, ensure_ascii=False, default=str)

    def _type(self, name: str) -> pa.DataType:
        kinds = self._kinds[name]
        if kinds == {bool}:
            return pa.bool_()
        if kinds and kinds <= {int, _LongInt}:
            return pa.int64()
        if kinds and kinds <= {int, float}:
            return pa.float64()
        return pa.string()


class _LongInt(int):
    """Kind of an integer that a 64-bit float cannot hold exactly."""


def _kind(value: Json) -> type:
    """The Python type, but `list` for whatever no Parquet number can hold, which makes it JSON text."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return list
    if type(value) is int and abs(value) > 2**53:
        return _LongInt
    return type(value) if isinstance(value, bool | int | float | str) else list

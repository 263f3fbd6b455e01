"""What travels between the driver and the workers: one row a prompt, its parts as JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from prefgen.judgment import JudgeFailure, Judgment
from prefgen.messages import Json, as_dicts, parse_messages
from prefgen.planted import PlantedResult
from prefgen.prompt import Prompt
from prefgen.sampling import Sampled

Row = dict[str, Any]
Answers = Mapping[bytes, tuple[str, dict[str, Json]]]
"""What models answered, by ledger key, each with the identity of its model."""

SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("place", pa.int64()),
        ("siblings", pa.int64()),
        ("prompt", pa.string()),
        ("planted", pa.bool_()),
        ("known", pa.list_(pa.binary())),
        ("sampled", pa.string()),
        ("told", pa.string()),
        ("error", pa.string()),
        ("answers", pa.list_(pa.binary())),
        ("reports", pa.list_(pa.string())),
    ]
)
"""`place`: in the shard; `siblings`: rows sent out with it, itself included. `planted`: whether the prompt
carries pairs of known answer. `known`: answers it got when it was worked on before. The rest is filled by the
workers: `sampled`, then `told`; in their place `error` where one could not; `answers`, all that the ledger
holds behind the row; `reports` of the workers themselves."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the judges said of one prompt."""

    results: tuple[Judgment | JudgeFailure, ...]
    planted: tuple[PlantedResult, ...]


SAMPLED, TOLD = TypeAdapter(Sampled), TypeAdapter(Told)


def fresh_row(shard: int, place: int, prompt: Prompt, planted: bool) -> Row:
    """A prompt that nothing was done for."""
    columns = json.dumps(dict(prompt.columns), ensure_ascii=False, default=str)
    text = json.dumps([prompt.id, as_dicts(prompt.messages), columns], ensure_ascii=False)
    empty: Row = dict.fromkeys(SCHEMA.names)
    return empty | {"shard": shard, "place": place, "prompt": text, "planted": planted} | _NOTHING


_NOTHING: Row = {"known": [], "sampled": None, "told": None, "error": None, "answers": [], "reports": []}


def started_again(row: Row) -> Row:
    """The row as it was before anything was done, but for the answers it got."""
    return row | _NOTHING | {"known": [*row["known"], *row["answers"]]}


def prompt_of(row: Row) -> Prompt:
    name, messages, columns = json.loads(row["prompt"])
    return Prompt(name, parse_messages(messages), json.loads(columns))


def sampled_of(row: Row) -> Sampled:
    return SAMPLED.validate_json(row["sampled"])


def told_of(row: Row) -> Told:
    return TOLD.validate_json(row["told"])


def is_owed(row: Row) -> bool:
    """Whether the row is unfinished, or something failed in it that a resumed run asks for again."""
    if row["told"] is None or sampled_of(row).failures:
        return True
    told = told_of(row)
    failed = any(isinstance(result, JudgeFailure) for result in told.results)
    return failed or any(item.margin is None for item in told.planted)


def pack(answers: Answers) -> list[bytes]:
    if not answers:
        return []
    listed = [[key.hex(), model, value] for key, (model, value) in answers.items()]
    return [zlib.compress(json.dumps(listed, ensure_ascii=False).encode(), 1)]


def unpack(packed: Sequence[bytes]) -> Answers:
    listed = [item for part in packed for item in json.loads(zlib.decompress(part))]
    return {bytes.fromhex(key): (model, value) for key, model, value in listed}

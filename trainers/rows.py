"""Rows a trainer learns from, read from a run directory or one file and split by prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, cast

from prefgen.errors import InputError, UsageError
from prefgen.messages import Json, Message, Messages, as_dicts, messages_hash, parse_messages, user
from prefgen.records import Record, read_records, require_columns

Text: TypeAlias = str | Messages
"""Plain text that is trained on as it stands, or turns that go through the chat template."""

LABELS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One training example and where it stands.

    `completions` holds the one completion, the chosen and the rejected one, or none where the policy writes
    them; `label`, `margin` and `confidence` are None where the stage has none; `columns`: what else the row
    of a prompt holds.
    """

    path: Path
    line: int
    prompt: Text
    completions: tuple[Text, ...]
    label: bool | None = None
    margin: float | None = None
    confidence: float | None = None
    columns: Mapping[str, Json] = field(default_factory=dict)

    @property
    def conversational(self) -> bool:
        return not isinstance(self.prompt, str)

    @property
    def prompt_hash(self) -> str:
        return messages_hash(user(self.prompt) if isinstance(self.prompt, str) else self.prompt)


def as_trl(text: Text) -> Json:
    """A string, or turns in the form chat templates take."""
    return text if isinstance(text, str) else [dict(turn) for turn in as_dicts(text)]


Parse: TypeAlias = Callable[[Path, Record], Row]


def read_rows(path: Path, parse: Parse, as_chat: bool) -> list[Row]:
    """All rows of a file, in one form (all plain strings or all messages). Raises InputError."""
    rows = [parse(path, record) for record in read_records(path)]
    rows = [_as_chat(row) for row in rows] if as_chat else rows
    for row in rows:
        if any(isinstance(text, str) == rows[0].conversational for text in (row.prompt, *row.completions)):
            raise InputError(
                path,
                "strings and messages are mixed",
                line=row.line,
                expected="every prompt and completion a string, or every one a list of messages",
                fix="write them in one form, or add --as-chat to read strings as messages",
            )
    return rows


def _as_chat(row: Row) -> Row:
    prompt = user(row.prompt) if isinstance(row.prompt, str) else row.prompt
    completions = tuple(
        (Message("assistant", text.strip()),) if isinstance(text, str) else text for text in row.completions
    )
    return replace(row, prompt=prompt, completions=completions)


def find_files(data: Path, folder: str, eval_data: Path | None) -> tuple[Path, Path | None]:
    """The training file and the held-out file (None: split some off), given a run directory or one file.

    Raises UsageError for a directory that is not a complete run, InputError for a missing split.
    """
    if not data.is_dir():
        return data, eval_data
    if not (data / "manifest.json").is_file():
        raise UsageError(
            f"{data} is not a complete run directory: it has no manifest.json, which is written last; "
            "finish the run with --resume, or name one file"
        )
    train, test = data / folder / "train.parquet", data / folder / "test.parquet"
    if not train.is_file():
        raise InputError(train, "no such file", expected=f"a run directory with a {folder} dataset")
    return train, eval_data or (test if test.is_file() and _count(test) else None)


def _count(path: Path) -> int:
    import pyarrow.parquet

    return cast(int, pyarrow.parquet.read_metadata(path).num_rows)


def split_by_prompt(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Training and held-out rows, in their order; the prompts with the smallest hashes are held out.

    At least one prompt is held out if `share` is above 0 and there are two; no prompt is on both sides.
    """
    prompts = sorted({row.prompt_hash for row in rows})
    count = max(1, math.floor(share * len(prompts) + 0.5)) if share and len(prompts) > 1 else 0
    held_out = set(prompts[:count])
    return (
        [row for row in rows if row.prompt_hash not in held_out],
        [row for row in rows if row.prompt_hash in held_out],
    )


# ------------------------------------------------------------------------------------------ one row of a file


def parse_pair(path: Path, record: Record, margin: bool = False, confidence: bool = False) -> Row:
    """A row of `prompt chosen rejected`, with numbers in `margin` and `confidence` if they are asked for."""
    wanted = [*(["margin"] if margin else []), *(["confidence"] if confidence else [])]
    require_columns(path, record, "prompt", "chosen", "rejected", *wanted)
    return Row(
        path,
        record.line,
        _prompt(path, record, record.values["prompt"]),
        (_completion(path, record, "chosen"), _completion(path, record, "rejected")),
        margin=_number(path, record, "margin") if margin else None,
        confidence=_confidence(path, record) if confidence else None,
    )


def parse_prompt(path: Path, record: Record) -> Row:
    """A row with a `prompt`; a string is a user's turn. Its other columns are carried along."""
    require_columns(path, record, "prompt")
    values = dict(record.values)
    prompt = _prompt(path, record, values.pop("prompt"))
    turns = user(prompt) if isinstance(prompt, str) else prompt
    return Row(path, record.line, turns, (), columns=values)


def distinct_prompts(rows: Sequence[Row]) -> list[Row]:
    """The first row of each prompt: a file of pairs may hold one several times."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.prompt_hash, row)
    return list(first.values())


def parse_labelled(path: Path, record: Record) -> Row:
    """A row of `prompt completion label`; the label says whether the completion is desirable."""
    require_columns(path, record, "prompt", "completion", "label")
    seen = record.values["label"]
    label = LABELS.get(str(seen).strip().lower()) if isinstance(seen, bool | int | str) else None
    if label is None:
        raise InputError(path, "a bad label", line=record.line, seen=repr(seen), expected="true or false")
    prompt = _prompt(path, record, record.values["prompt"])
    return Row(path, record.line, prompt, (_completion(path, record, "completion"),), label=label)


def parse_demonstration(path: Path, record: Record) -> Row:
    """A row of `prompt completion`, of `messages`, or of pairs, whose chosen side is the demonstration.

    Of `messages` the last turn is the completion and what stands before it the prompt.
    """
    if "messages" in record.values:
        return _split_conversation(path, record)
    column = "completion" if "completion" in record.values else "chosen"
    if column not in record.values:
        require_columns(path, record, "prompt", "completion")
    require_columns(path, record, "prompt", column)
    prompt = _prompt(path, record, record.values["prompt"])
    return Row(path, record.line, prompt, (_completion(path, record, column),))


def _split_conversation(path: Path, record: Record) -> Row:
    turns = record.values["messages"]
    if not isinstance(turns, list) or len(turns) < 2:
        raise InputError(
            path, "bad messages", line=record.line, seen=turns, expected="a list of two or more messages"
        )
    reply = _reply(path, record, "messages", turns[-1:])
    return Row(path, record.line, _prompt(path, record, turns[:-1]), (reply,))


def _prompt(path: Path, record: Record, value: Json) -> Text:
    try:
        messages = parse_messages(value)
    except ValueError as error:
        raise InputError(path, f"a bad prompt ({error})", line=record.line) from error
    return value if isinstance(value, str) else messages


def _completion(path: Path, record: Record, column: str) -> Text:
    value = record.values[column]
    return value if isinstance(value, str) else _reply(path, record, column, value)


def _reply(path: Path, record: Record, column: str, value: Json) -> Messages:
    """An assistant's turns. The last one is checked by its role alone, the others like a prompt's."""
    turns = value if isinstance(value, list) else []
    last = turns[-1] if turns else None
    if (
        not isinstance(last, dict)
        or last.get("role") != "assistant"
        or not isinstance(last.get("content"), str)
    ):
        raise InputError(
            path,
            f"a bad {column}",
            line=record.line,
            seen=repr(value),
            expected='a string, or messages that end with {"role": "assistant", "content": "…"}',
        )
    try:
        # A closing user turn lets the prompt's parser check turns that end with the assistant's.
        return parse_messages([*turns, *as_dicts(user("?"))])[:-1]
    except ValueError as error:
        raise InputError(path, f"a bad {column} ({error})", line=record.line) from error


def _confidence(path: Path, record: Record) -> float:
    number = _number(path, record, "confidence")
    if not 0.5 <= number <= 1:
        raise InputError(
            path,
            "a bad confidence",
            line=record.line,
            seen=number,
            expected="the probability that chosen is the better response, from 0.5 to 1",
        )
    return number


def _number(path: Path, record: Record, column: str) -> float:
    value = record.values[column]
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            path, f"a bad {column}", line=record.line, seen=repr(value), expected="a finite number"
        )
    return number

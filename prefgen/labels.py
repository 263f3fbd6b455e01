"""Human labels and unlabelled pairs: two responses to a prompt, and what people said of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from prefgen.candidate import Candidate
from prefgen.errors import InputError
from prefgen.judgment import Verdict
from prefgen.messages import parse_messages
from prefgen.prompt import Prompt
from prefgen.records import Record, identifier, read_records, require_columns, require_text

_COLUMNS = ("id", "prompt", "response_a", "response_b")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to be judged; `a` and `b` always name the file's responses."""

    id: str
    prompt: Prompt
    a: Candidate
    b: Candidate

    @property
    def content(self) -> tuple[object, ...]:
        """What is judged, whatever it is called."""
        return self.prompt.messages, self.a.text, self.b.text


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A pair and its annotators' labels, in the order of the file. `annotators`: who gave each, None where
    the file does not say. `settled`: the last word of who decided between them, no further opinion."""

    pair: Pair
    labels: tuple[Verdict, ...]
    annotators: tuple[str | None, ...]
    settled: Verdict | None = None

    @property
    def majority(self) -> Verdict:
        """What was settled, else what more than half of the annotators said; no majority is a tie."""
        if self.settled is not None:
            return self.settled
        label, count = Counter(self.labels).most_common(1)[0]
        return label if 2 * count > len(self.labels) else "tie"


def read_pairs(path: Path, text: str | None = None) -> Iterator[Pair]:
    """The pairs of a file. `text`: a column that must hold text in every row. Raises InputError."""
    seen: dict[str, int] = {}
    for record in read_records(path):
        pair = _pair(path, record, text)
        if pair.id in seen:
            raise InputError(
                path, f"the id {pair.id!r} twice", line=record.line, seen=f"first on line {seen[pair.id]}"
            )
        seen[pair.id] = record.line
        yield pair


def read_labels(path: Path, text: str | None = None) -> list[LabelledPair]:
    """The labelled pairs of a file, in the order their ids first appear. Raises InputError.

    Several rows with one id are several annotators; they must show the same responses, and a named
    annotator labels a pair once. A row with `adjudicated` true decides its pair, whatever the others say.
    `text`: a column that must hold text in every row.
    """
    pairs: dict[str, Pair] = {}
    settled: dict[str, Verdict] = {}
    labels: dict[str, list[tuple[str | None, Verdict]]] = {}
    for record in read_records(path):
        require_columns(path, record, "label")
        pair = _pair(path, record, text)
        known = pairs.setdefault(pair.id, pair)
        if known.content != pair.content:
            raise InputError(
                path, f"the id {pair.id!r} stands for different prompts or responses", line=record.line
            )
        label = record.values["label"]
        if not isinstance(label, str) or label not in get_args(Verdict):
            raise InputError(
                path,
                "not a label",
                line=record.line,
                seen="null" if label is None else label,
                expected="a, b or tie",
            )
        given = labels.setdefault(pair.id, [])
        if record.values.get("adjudicated") in (True, "true"):
            if pair.id in settled:
                raise InputError(path, f"the pair {pair.id!r} is adjudicated twice", line=record.line)
            settled[pair.id] = cast(Verdict, label)
            continue
        annotator = _annotator(path, record)
        if annotator is not None and annotator in dict(given):
            raise InputError(
                path,
                f"annotator {annotator!r} labels the pair {pair.id!r} twice",
                line=record.line,
                expected="one row for each annotator and id",
            )
        given.append((annotator, cast(Verdict, label)))
    return [_labelled(pair, labels[name], settled.get(name)) for name, pair in pairs.items()]


def _labelled(
    pair: Pair, given: Sequence[tuple[str | None, Verdict]], settled: Verdict | None
) -> LabelledPair:
    if not given and settled is not None:  # Only the last word is in the file: it is a label as any other.
        return LabelledPair(pair, (settled,), (None,))
    annotators, labels = zip(*given, strict=True)
    return LabelledPair(pair, labels, annotators, settled)


def _annotator(path: Path, record: Record) -> str | None:
    value = record.values.get("annotator")
    return None if value is None or value == "" else identifier(path, record, value, "annotator")


def _pair(path: Path, record: Record, text: str | None) -> Pair:
    require_columns(path, record, *_COLUMNS)
    if text is not None:
        require_text(path, record, text)
    values = record.values
    others = {name: value for name, value in values.items() if name not in _COLUMNS}
    name = identifier(path, record, values["id"])
    try:
        prompt = Prompt(name, parse_messages(values["prompt"]), others)
    except ValueError as error:
        raise InputError(path, f"a prompt that cannot be used: {error}", line=record.line) from error
    sides: Sequence[Candidate] = [
        _response(path, record, name, side, values[f"response_{side}"]) for side in ("a", "b")
    ]
    return Pair(name, prompt, sides[0], sides[1])


def _response(path: Path, record: Record, name: str, side: str, text: object) -> Candidate:
    if not isinstance(text, str):
        raise InputError(
            path, f"response_{side} is not text", line=record.line, seen=json.dumps(text), expected="a string"
        )
    return Candidate(name, text, f"file/{side}", 0)

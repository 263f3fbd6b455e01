"""The labels file, written from the store: what `prefgen calibrate` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.labelling.item import ADJUDICATOR, UNNAMED, Item
from pipelines.labelling.store import Given, Store
from prefgen.candidate import Candidate
from prefgen.files import json_lines, write_whole
from prefgen.judgment import sigmoid
from prefgen.labels import LabelledPair, Pair
from prefgen.messages import Json, as_dicts
from prefgen.prompt import Prompt

_OWN = ("label", "annotator", "adjudicated", "reason")
"""Columns of a label: what a file or a prompt has under these names is not carried along."""


def rows(store: Store) -> Iterator[dict[str, Any]]:
    """One for each label, the pairs in the order they were drawn. A skip is no label. The adjudicator's row
    has `adjudicated`, so that it decides the pair and does not count as one opinion more."""
    given = _by_item(store)
    for item in store.items(labelled=True):
        for told in given.get(item.id, []):
            row = _pair(item) | {"label": told.label, "annotator": _name(told.annotator)}
            if told.annotator == ADJUDICATOR:
                row["adjudicated"] = True
            if told.reason:
                row["reason"] = told.reason
            yield row


def lines(store: Store) -> Iterator[str]:
    yield from (json.dumps(row, ensure_ascii=False) + "\n" for row in rows(store))


def write_labels(store: Store, path: Path) -> None:
    write_whole(path, "".join(lines(store)))


def write_verdicts(store: Store, path: Path, judge: str) -> None:
    """What a run's judge said of the pairs, in the form of a verdicts file."""
    told = (
        {"id": item.id, "verdict": item.judged, "p_a": sigmoid(item.margin), "order": None, "judge": judge}
        for item in store.items()
        if item.margin is not None
    )
    write_whole(path, json_lines(told))


def labelled(store: Store) -> list[tuple[Item, LabelledPair]]:
    """The pairs that have a label, each as `prefgen.labels.read_labels` will read it."""
    given = _by_item(store)
    found = []
    for item in store.items(labelled=True):
        told = [(entry.annotator, entry.label) for entry in given.get(item.id, []) if entry.label is not None]
        votes = [(name, label) for name, label in told if name != ADJUDICATOR]
        if votes:
            names, labels = zip(*votes, strict=True)
            pair = Pair(item.id, Prompt(item.id, item.prompt), *_sides(item))
            found.append((item, LabelledPair(pair, labels, names, dict(told).get(ADJUDICATOR))))
    return found


def _sides(item: Item) -> tuple[Candidate, Candidate]:
    return Candidate(item.id, item.a, "file/a", 0), Candidate(item.id, item.b, "file/b", 0)


def _by_item(store: Store) -> dict[str, list[Given]]:
    found: dict[str, list[Given]] = {}
    for told in store.given():
        if told.label is not None:
            found.setdefault(told.item, []).append(told)
    return found


def _pair(item: Item) -> dict[str, Any]:
    pair = {"id": item.id, "prompt": _prompt(item), "response_a": item.a, "response_b": item.b}
    carried = {name: value for name, value in item.columns.items() if name not in _OWN}
    return pair | {name: value for name, value in carried.items() if name not in pair}


def _prompt(item: Item) -> Json:
    """As plain a form as reads back the same."""
    if len(item.prompt) == 1 and item.prompt[0].role == "user" and item.prompt[0].content.strip():
        return item.prompt[0].content
    return [dict(message) for message in as_dicts(item.prompt)]


def _name(annotator: str) -> str | None:
    return None if annotator.startswith(UNNAMED) else annotator

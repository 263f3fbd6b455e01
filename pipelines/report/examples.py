"""Pairs to be read, with what the judges wrote about them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from prefgen.candidate import Candidate
from prefgen.preference import Preference
from prefgen.prompt import Prompt

_SHOWN = 3
_SHORTEST_REASON = 20
_WITHOUT_WORDS = ("logprobs", "reward")


@dataclass(frozen=True, slots=True)
class Example:
    """A pair as text. `reasons`: (what the judge was asked, what it wrote); `note`: why it is shown."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    prompt: str
    chosen: str
    rejected: str
    margin: float
    confidence: float
    reasons: tuple[tuple[str, str], ...] = ()
    note: str = ""

    @classmethod
    def of(cls, preference: Preference) -> Example:
        prompt, chosen, rejected = preference.prompt, preference.chosen, preference.rejected
        return cls.between(prompt, chosen, rejected, preference.margin, preference.confidence)

    @classmethod
    def between(
        cls, prompt: Prompt, chosen: Candidate, rejected: Candidate, margin: float, confidence: float
    ) -> Example:
        ids, texts = (prompt.id, chosen.id, rejected.id), (prompt.text, chosen.text, rejected.text)
        return cls(*ids, *texts, margin, confidence)


class Few:
    """The three examples with the largest, or the smallest, margin."""

    def __init__(self, largest: bool) -> None:
        self._take = partial(nlargest if largest else nsmallest, _SHOWN)
        self.items: list[Example] = []

    def add(self, example: Example) -> None:
        self.items = self._take([*self.items, example], key=lambda item: item.margin)


def with_reasons(groups: Iterable[list[Example]], judgments: Path) -> list[list[Example]]:
    """The same examples with what the table says of them; only the prompts in question are read."""
    shown = list(groups)
    told = _judgments_on({item.prompt_id for items in shown for item in items}, judgments)
    return [
        [replace(item, reasons=_reasons(item, told[item.prompt_id])) for item in items] for items in shown
    ]


def _judgments_on(prompt_ids: set[str], path: Path) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    if prompt_ids and path.exists():
        columns = ["prompt_id", "a_id", "b_id", "order", "raw", "evidence"]
        for row in pq.read_table(
            path, columns=columns, filters=[("prompt_id", "in", prompt_ids)]
        ).to_pylist():
            found[row["prompt_id"]].append(row)
    return found


def _reasons(example: Example, told: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """What a judge wrote on the pair with the chosen response shown first, or on each response alone."""
    found: dict[str, str] = {}
    for row in told:
        asked = _asked(row, example)
        written = "" if row["evidence"] in _WITHOUT_WORDS else _reason(row["raw"] or "")
        if asked and len(written) >= _SHORTEST_REASON:
            found.setdefault(asked, written)
    return tuple(sorted(found.items()))


def _asked(row: Mapping[str, Any], example: Example) -> str | None:
    sides = {example.chosen_id: "chosen", example.rejected_id: "rejected"}
    if row["b_id"] is None:
        return f"on the {sides[row['a_id']]} response" if row["a_id"] in sides else None
    shown = (row["a_id"], row["b_id"]) if row["order"] != "ba" else (row["b_id"], row["a_id"])
    return "shown the chosen response first, as A" if shown == tuple(sides) else None


def _reason(raw: str) -> str:
    """The words of a reply: of several votes the first, of a JSON object its reason."""
    try:
        value = json.loads(raw)
    except ValueError:
        return raw.strip()
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("reason")
    return value.strip() if isinstance(value, str) else ""

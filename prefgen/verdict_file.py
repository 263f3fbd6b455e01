"""Recorded verdicts: what a judge said of pairs, as a file. The inverse of what `prefgen judge` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

from prefgen.comparison import Order
from prefgen.errors import InputError
from prefgen.judgment import Verdict, logit
from prefgen.messages import Json
from prefgen.records import Record, identifier, read_records, require_columns

_SUREST = 1e-6
"""A stated probability of 0 or 1 counts as this far from it: certainty has no finite log-odds."""
_WORTH = {"a": 1.0, "tie": 0.0, "b": -1.0}


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """What a judge said of one pair, once. `a` and `b` are the pair's, whatever the `order` shown.

    `verdict` None: the judge gave none. `log_odds`: that a is better; None where no probability was stated.
    `principles`: the log-odds by principle, where they were asked one by one.
    """

    id: str
    verdict: Verdict | None
    log_odds: float | None = None
    order: Order | None = None
    judge: str | None = None
    principles: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """What counts in a mean over verdicts: log-odds where stated, else 1 for a, -1 for b, 0 for a tie."""
        if self.verdict is None or self.log_odds is not None:
            return self.log_odds
        return _WORTH[self.verdict]

    @property
    def contradicts_itself(self) -> bool:
        """Whether the probability names another side than the verdict, or none."""
        worth = _WORTH[self.verdict] if self.verdict is not None else 0.0
        return worth != 0 and self.log_odds is not None and worth * self.log_odds <= 0


def read_verdicts(path: Path) -> list[RecordedVerdict]:
    """The verdicts of a file, in order. Raises InputError for anything that is neither a verdict nor null."""
    return [_verdict(path, record) for record in read_records(path)]


def _verdict(path: Path, record: Record) -> RecordedVerdict:
    require_columns(path, record, "id", "verdict")
    values = record.values
    verdict = _one_of(path, record, "verdict", get_args(Verdict), "a, b, tie, or null for no usable verdict")
    log_odds = _log_odds(path, record, "p_a", values.get("p_a"))
    judge = values.get("judge")
    return RecordedVerdict(
        identifier(path, record, values["id"]),
        cast("Verdict | None", verdict),
        None if verdict is None else log_odds,
        cast("Order | None", _one_of(path, record, "order", get_args(Order), "ab, ba or null")),
        None if judge is None or judge == "" else identifier(path, record, judge, "judge"),
        {} if verdict is None else _principles(path, record),
    )


def _one_of(path: Path, record: Record, name: str, known: tuple[str, ...], expected: str) -> str | None:
    value = record.values.get(name)
    if value is None or value == "":  # A CSV file has no other null.
        return None
    if not isinstance(value, str) or value not in known:
        raise InputError(path, f"not a known {name}", line=record.line, seen=value, expected=expected)
    return value


def _principles(path: Path, record: Record) -> dict[str, float]:
    given = record.values.get("principles") or {}
    if not isinstance(given, dict):
        raise InputError(
            path, "principles is not an object", line=record.line, seen=given, expected='{"ID": p_a, …}'
        )
    odds = {name: _log_odds(path, record, name, value) for name, value in given.items()}
    return {name: value for name, value in odds.items() if value is not None}


def _log_odds(path: Path, record: Record, name: str, value: Json) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise InputError(
            path, f"{name} is not a probability", line=record.line, seen=value, expected="0 to 1, or null"
        )
    return logit(min(1 - _SUREST, max(_SUREST, number)))

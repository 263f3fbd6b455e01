"""A what-if as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.markup import number, percent, signed
from pipelines.plain_table import plain_table

Row = Mapping[str, Any]
_NAMES = {"max_pairs": "max pairs", "max_similarity": "max similarity", "max_length_gap": "max length gap"}


def what_if_text(found: Mapping[str, Any]) -> str:
    """The rows, what other weighings move, and the command that writes the picked row."""
    rows: Sequence[Row] = found["rows"]
    varied = [name for name in _NAMES if len({row[name] for row in rows}) > 1]
    head = ["", "strategy", "confidence", *(_NAMES[name] for name in varied)]
    head += ["pairs", "prompts", "length gap", "d", "mean", "precision"]
    lines = plain_table(head, [_cells(row, varied) for row in rows], left=2)
    return "\n".join([*lines, *_legend(found), *_weighings(found), *_to_write(rows)])


def _cells(row: Row, varied: Sequence[str]) -> list[str]:
    mark = ("*" if row["own"] else "") + (">" if row["picked"] else "")
    precision = row["expected_precision"]
    return [
        mark,
        row["strategy"],
        _threshold(row),
        *("–" if row[name] is None else f"{row[name]:g}" for name in varied),
        number(row["pairs"]),
        "–" if row["yield"] is None else percent(row["yield"]),
        signed(row["length_gap"], 0),
        signed(row["cohens_d"]),
        "–" if row["mean_confidence"] is None else f"{row['mean_confidence']:.3f}",
        "unknown" if precision is None else percent(precision),
    ]


def _threshold(row: Row) -> str:
    if row["target_precision"] is None:
        return f"≥ {row['min_confidence']:g}"
    earned = "never" if row["threshold"] is None else f"≥ {row['threshold']:.3f}"
    return f"{earned} for {100 * row['target_precision']:g}%"


def _legend(found: Mapping[str, Any]) -> list[str]:
    marks = [("*", "own", "the run's own settings"), (">", "picked", "the row of the command below")]
    shown = [f"{mark} {told}" for mark, key, told in marks if any(row[key] for row in found["rows"])]
    precision = (
        "precision: share of labels that people should agree with, by the calibration: an estimate; "
        "--target-precision asks whether it is earned"
        if found["calibrated"]
        else "precision: unknown, not calibrated (prefgen calibrate)"
    )
    return [
        "",
        "; ".join(shown),
        "prompts: share with a pair; length gap: characters, chosen − rejected; d: Cohen's; mean: confidence",
        precision,
    ]


def _weighings(found: Mapping[str, Any]) -> list[str]:
    if not found["weighings"]:
        return []
    names = ["clear", "unclear", "turned", "unknown"]
    rows = [[told["name"], *(number(told[name]) for name in names)] for told in found["weighings"]]
    return ["", *plain_table([f"the {_picked(found)}, weighed", *names], rows)]


def _picked(found: Mapping[str, Any]) -> str:
    return next(f"{number(row['pairs'])} pairs of >" for row in found["rows"] if row["picked"])


def _to_write(rows: Sequence[Row]) -> list[str]:
    return [f"\nto write >: {row['command']}" for row in rows if row["picked"]]

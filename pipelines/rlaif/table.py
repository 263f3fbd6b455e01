"""The rounds as a table for the terminal, and what they came to in a few lines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = ("round", "pairs", "labels", "over round 0", "over last", "training judge", "length", "")


def loop_summary(out: Path, manifest: Mapping[str, Any]) -> str:
    """What `prefgen rlaif` prints."""
    best, usage, rounds = manifest["best"], manifest["usage"], manifest["rounds"]
    cost = "unknown (no price given)" if usage["cost_usd"] is None else f"${usage['cost_usd']:.4f}"
    n = rounds[-1]["evaluation"]["n"]
    lines = [
        *_start(manifest["start"]),
        *aligned([HEAD, *(cells(item, best["round"]) for item in rounds)]),
        f"win rates by {manifest['models']['held_out_judge']} on {n} held-out prompts, with 95% intervals",
        f"training judge: {manifest['models']['judge']}, over round 0; labels: {labels_in_words(rounds)}; "
        "length: over round 0",
    ]
    if manifest["stopped"]:
        lines.append(f"stopped after round {rounds[-1]['round']}:")
        for alarm in manifest["stopped"]:
            lines += [f"  {alarm['kind']}: {alarm['text']}", f"    remedy: {alarm['remedy']}"]
    lines += [
        f"best: round {best['round']}, {os.path.normpath(out / best['model'])}"
        + ("" if best["round"] else " (no round is surely better than the start)"),
        f"calls: {usage['requests']} paid, {usage['cached_requests']} from the ledger; cost {cost}",
        f"written to {out}: report.html, rounds/, lineage.parquet, best",
    ]
    return "\n".join(lines)


def cells(record: Mapping[str, Any], best: int) -> tuple[str, ...]:
    """A round as a row of the table."""
    told = record["evaluation"]
    return (
        str(record["round"]),
        str(record["counts"]["pairs"]),
        labels(record),
        rate(told),
        rate(told["last"]),
        f"{told['training_judge']['win_rate']:.0f}%",
        f"×{told['length_ratio']:.2f}",
        ", ".join(
            [*(["best"] if record["round"] == best else []), *(alarm["kind"] for alarm in record["alarms"])]
        ),
    )


def labels(record: Mapping[str, Any]) -> str:
    """How good a round's labels are: what a calibration promises of them, else their mean margin."""
    if record["expected_label_precision"] is not None:
        return f"{100 * record['expected_label_precision']:.1f}%"
    return "–" if record["mean_margin"] is None else f"{record['mean_margin']:+.2f}"


def labels_in_words(rounds: Sequence[Mapping[str, Any]]) -> str:
    calibrated = rounds[-1]["expected_label_precision"] is not None
    return "share expected to be right" if calibrated else "mean margin in log-odds"


def rate(told: Mapping[str, Any]) -> str:
    low, high = told["ci"]
    return f"{told['win_rate']:.0f}% [{low:.0f}, {high:.0f}]"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side: numbers to the right, the last one to the left."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if place < len(row) - 1 else cell
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _start(start: Mapping[str, Any] | None) -> list[str]:
    if start is None:
        return []
    return [f"round 0, fine-tuned on revisions, over {start['baseline']}: {rate(start)}"]

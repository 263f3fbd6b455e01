"""What a run directory knows of its labels: whether they were calibrated, and how many should be right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from prefgen.errors import UsageError
from prefgen.messages import Json

UNCALIBRATED = (
    "no calibration is known for the confidences of the pairs, so they are the judge's own odds and not the "
    "probability that people agree (see prefgen calibrate)"
)


def is_calibrated(data: Path) -> bool:
    """Whether the confidences of `data`, a run directory or a file of one, are calibrated."""
    return bool(_manifest(data).get("calibration"))


def noise_rate(data: Path) -> float:
    """Expected share of pairs that are the wrong way round: 1 - the label precision of the calibration.

    `data`: a run directory or a file of one. Raises UsageError where no calibration tells it.
    """
    precision = _manifest(data).get("expected_label_precision")
    if not isinstance(precision, int | float):
        raise UsageError(
            f"the share of wrong labels is not known: {data} was not made with a calibration; give "
            "--noise-rate, or calibrate the judge (prefgen calibrate) and make pairs with --calibration"
        )
    if not 0.5 < precision <= 1:
        raise UsageError(
            f"{data} expects {precision:.0%} of its labels to be right, which is no better than a coin; make "
            "pairs with a higher --min-confidence, or give --noise-rate"
        )
    return 1 - precision


def _manifest(data: Path) -> Mapping[str, Json]:
    """Of the run that `data` is, or lies in as `dpo/train.parquet` does; empty where there is none."""
    run = data if data.is_dir() else data.resolve().parent.parent
    path = run / "manifest.json"
    if not path.is_file() or not (data.is_dir() or data.resolve().parent.name == "dpo"):
        return {}
    found = json.loads(path.read_text("utf-8"))
    return found if isinstance(found, dict) else {}

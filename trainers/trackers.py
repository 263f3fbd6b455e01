"""Trackers that get the metrics as well as `metrics.jsonl`: `--report-to`."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from prefgen.errors import UsageError

LOGGING_DIR = "TENSORBOARD_LOGGING_DIR"
PACKAGES = {"azure_ml": ("azureml",), "tensorboard": ("tensorboard", "tensorboardX")}
"""What to import for a tracker, where it is not called as the tracker is; the first is the one to install."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises UsageError for a tracker that does not exist or whose package is not installed."""
    with redirect_stdout(sys.stderr):  # With WANDB_MODE=offline its import says so.
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            near = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"--report-to {name}: expected one of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}{hint}"
            )
        packages = PACKAGES.get(name, (name,))
        if not any(importlib.util.find_spec(package) for package in packages):
            raise UsageError(
                f"--report-to {name}: its package is not installed; run: pip install {packages[0]}"
            )


def places(names: Sequence[str], out: Path) -> dict[str, str | None]:
    """Where each tracker's metrics of a training in `out` are; None: where its own settings say."""
    folder = os.environ.get(LOGGING_DIR) or str(out / "tensorboard")
    return {name: folder if name == "tensorboard" else None for name in names}


@contextmanager
def logging_folder(out: Path, names: Sequence[str] = ()) -> Iterator[None]:
    """Lets TensorBoard write to OUT/tensorboard, unless the environment names another folder. What trackers
    print goes to stderr: stdout is the result's. Raises UsageError where one of `names` fails."""
    ours = LOGGING_DIR not in os.environ
    if ours:
        os.environ[LOGGING_DIR] = str(out / "tensorboard")
    # It says its last words when the process ends.
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        tracker = type(error).__module__.partition(".")[0]
        if tracker not in names:
            raise
        raise UsageError(f"--report-to {tracker}: {error}") from error
    finally:
        if ours:
            del os.environ[LOGGING_DIR]

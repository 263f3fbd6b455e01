"""Trackers that get the metrics as well as `metrics.jsonl`: `--report-to`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefgen.errors import UsageError

PACKAGES = {"azure_ml": ("azureml",), "tensorboard": ("tensorboard", "tensorboardX")}
"""What to import for a tracker, where it is not called as the tracker is; the first is the one to install."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises UsageError for a tracker that does not exist or whose package is not installed."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UsageError(
                f"--report-to {name}: expected one of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}"
            )
        packages = PACKAGES.get(name, (name,))
        if not any(importlib.util.find_spec(package) for package in packages):
            raise UsageError(
                f"--report-to {name}: its package is not installed; run: pip install {packages[0]}"
            )


@contextmanager
def logging_folder(out: Path) -> Iterator[None]:
    """Lets TensorBoard write to OUT/tensorboard, unless the environment names another folder."""
    name = "TENSORBOARD_LOGGING_DIR"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(out / "tensorboard")
    try:
        yield
    finally:
        del os.environ[name]

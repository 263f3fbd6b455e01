"""A training stage beside the event loop that answers its questions to judges."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pipelines.uses import record_training
from trainers.config import StageConfig
from trainers.monitor import OnLog

T = TypeVar("T")
_TURN = 0.5
"""Seconds."""


class _StoppedError(Exception):
    """Ends the training thread."""


async def in_thread(
    train: Callable[..., T], config: BaseModel, on_log: OnLog | None = None, **options: Any
) -> T:
    """Runs a stage in a thread of its own. Cancelled, it ends at the next log, and the last checkpoint stays.

    `options`: further arguments of the stage, such as its rewards. What gives no logs is waited for.
    """
    stop = threading.Event()

    def log(numbers: dict[str, float]) -> None:
        if stop.is_set():
            raise _StoppedError
        if on_log is not None:
            on_log(numbers)

    training = asyncio.create_task(asyncio.to_thread(train, config, on_log=log, **options))
    try:
        # The kernel of a notebook sees an interrupt only when its loop turns.
        while not training.done():
            await asyncio.wait([training], timeout=_TURN)
        return training.result()
    except asyncio.CancelledError:
        stop.set()
        # The loop goes on until then: the stage may be waiting for a judge.
        await asyncio.wait([training])
        if not training.cancelled():
            training.exception()  # Marks it as seen.
        raise


async def train_in_thread(train: Callable[..., Path], config: StageConfig, **options: Any) -> Path:
    """The same of a whole stage, of which the run that it was trained on then knows."""
    folder = await in_thread(train, config, **options)
    record_training(config.data, folder)
    return folder

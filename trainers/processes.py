"""The processes of one training run, one for each device, as `accelerate launch` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: the main one saves and checks a whole model meanwhile."""


def launched() -> bool:
    """Whether this is one of the processes of a launcher, which ends all of them when one fails."""
    return "LOCAL_RANK" in os.environ


def count() -> int:
    """All processes of the run, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1")) if launched() else 1


def is_main() -> bool:
    """Whether this is the process that writes; true where there is only one."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def sharded() -> str | None:
    """What splits the weights between the processes, None where each holds them whole."""
    if not launched():
        return None
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return "FSDP"
    return "DeepSpeed" if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true" else None


def join() -> None:
    """Makes the processes know each other; nothing where there is only one."""
    if launched():
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def from_main(make: Callable[[], T]) -> T:
    """What `make` returns in the main process, in all of them; the others wait for it."""
    if not launched():
        return make()
    from accelerate.utils import broadcast_object_list

    made = [make() if is_main() else None]
    result: T = broadcast_object_list(made)[0]
    return result


def wait() -> None:
    """Until all processes are here."""
    if launched():
        from accelerate import PartialState

        PartialState().wait_for_everyone()

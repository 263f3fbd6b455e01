"""What happens first inside the process of a vLLM engine (imported there, and only where vLLM is).

vLLM leaves three things to be wished for when its engine serves a command at a terminal: the process
writes into that terminal, a Ctrl-C meant for us kills it in the middle of our clean-up, and it outlives
a parent that was killed. An executor is the first of our code that runs in that process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

LOG_VARIABLE = "PREFGEN_ENGINE_LOG"
_LOOK_EVERY = 0.5


class DetachedMultiprocExecutor(MultiprocExecutor):  # type: ignore[misc]
    def _init_executor(self) -> None:
        detach()
        super()._init_executor()


class DetachedUniProcExecutor(UniProcExecutor):  # type: ignore[misc]
    def _init_executor(self) -> None:
        detach()
        super()._init_executor()


def detached(executor: type) -> type:
    """Our variant of vLLM's executor class; any other (Ray) as it is."""
    variants: dict[type, type] = {
        MultiprocExecutor: DetachedMultiprocExecutor,
        UniProcExecutor: DetachedUniProcExecutor,
    }
    return variants.get(executor, executor)


def detach() -> None:
    """Leaves the terminal's process group, writes to the log from now on, and ends with its parent."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    os.setsid()
    if log := os.environ.get(LOG_VARIABLE):
        target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
    threading.Thread(target=_end_with, args=(parent.pid,), daemon=True, name="prefgen-parent").start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    # At once and all of its workers with it, so that their memory is free for the run that resumes.
    os.killpg(os.getpgid(0), signal.SIGKILL)

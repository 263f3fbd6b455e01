"""Ray: started on this machine or found at an address, big enough for the pools, and quiet."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from prefgen import __version__
from prefgen.errors import MissingExtraError, UsageError

_CONNECT = 5.0
"""Seconds to wait for a cluster to answer."""
_ANSWER = 120.0
"""Seconds in which a node can start a Python process, even a busy one."""
_FREE = 15.0
"""Seconds to wait for other jobs to give back what the pools need."""
_STORE = 512 * 2**20
"""Bytes of shared memory of a cluster of our own: shards are small."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "3",
}


@dataclass(frozen=True, slots=True)
class Pool:
    """`workers` actors of one CPU and `gpus` GPUs each."""

    workers: int
    gpus: float = 0.0


@contextmanager
def connected(address: str | None, cpus: int) -> Iterator[None]:
    """To the cluster at an address, or to one of our own on this machine, with `cpus` at least; what was
    started is stopped, and nothing else.

    Raises MissingExtraError, UsageError where no cluster answers.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    with _silence():
        _connect(address, cpus)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str | None, cpus: int) -> None:
    import ray

    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        given |= {"include_dashboard": False, "object_store_memory": _STORE, "_node_ip_address": "127.0.0.1"}
        with _mute():
            ray.init(address="local", num_cpus=max(cpus, os.cpu_count() or 1), **given)
        return
    _check_answers(address)
    try:
        with _mute():
            ray.init(address=address, **given)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        cause = error.__cause__ or error
        what = str(cause).strip().splitlines()[-1] if str(cause).strip() else type(cause).__name__
        raise UsageError(
            f"--ray-address {address}: no Ray cluster of this machine there ({what})\n"
            "  expected the address of a running cluster that this machine is a node of\n"
            "  fix: see ray status; join it with ray start --address=HOST:PORT; where the cluster asks for a "
            "token, set RAY_AUTH_MODE=token"
        ) from error


def _check_answers(address: str) -> None:
    """A cluster that is not there is told at once, not after a minute."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--ray-address {address!r}: expected HOST:PORT, for example 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT).close()
    except OSError as error:
        raise UsageError(
            f"--ray-address {address}: nothing answers there ({error.strerror or error})\n"
            "  fix: start the cluster with ray start --head --port=PORT, or leave the option out"
        ) from error


@contextmanager
def _mute() -> Iterator[None]:
    """Ray's core writes to descriptor 2, where only what Python writes is wanted."""
    python, out = sys.stderr, os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        if python.fileno() == 2:
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    except (OSError, ValueError):
        pass  # Python's own goes elsewhere already.
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(out, 2)
        os.close(out)
        os.close(nowhere)
        if sys.stderr is not python:
            sys.stderr.close()
            sys.stderr = python


@contextmanager
def _silence() -> Iterator[None]:
    """Ray speaks by loggers and warnings of its own; what matters is raised."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def this_node() -> dict[str, str]:
    """Ray's label selector of the machine we are on."""
    import ray

    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def check_nodes() -> None:
    """Raises UsageError where a node has not this prefgen."""
    import ray

    def installed() -> str:
        from prefgen import __version__

        return __version__

    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = ray.remote(installed).options(
                num_cpus=0, label_selector={"ray.io/node-id": node["NodeID"]}, max_retries=0
            )
            asked[there.remote()] = node["NodeManagerAddress"]
    for answer, node in asked.items():
        try:
            seen = f"prefgen {ray.get(answer, timeout=_ANSWER)}"
        except ray.exceptions.RayError as error:
            seen = str(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)
        if seen != f"prefgen {__version__}":
            raise UsageError(
                f"Ray node {node}: expected prefgen {__version__} in its Python, as here; seen: {seen}\n"
                '  fix: pip install "prefgen[ray]" in the environment that ray start runs in, on every node'
            )


def has_gpus() -> bool:
    import ray

    return bool(ray.cluster_resources().get("GPU"))


def check_room(*pools: Pool) -> None:
    """Raises UsageError where the pools do not fit: Ray would wait for ever."""
    import ray

    deadline = time.monotonic() + _FREE
    while not fits(*pools, free=True):
        if not fits(*pools, free=False):
            raise UsageError(f"{_asked(*pools)}; the cluster has {_told(ray.cluster_resources())}\n  {_FIX}")
        if time.monotonic() > deadline:
            raise UsageError(
                f"{_asked(*pools)}; of the cluster's {_told(ray.cluster_resources())} other jobs leave "
                f"{_told(ray.available_resources())}\n  {_FIX}"
            )
        time.sleep(0.5)


_FIX = "fix: lower --policy-workers, --judge-workers or --gpus-per-worker, or add nodes"


def _asked(*pools: Pool) -> str:
    cpus, gpus = sum(pool.workers for pool in pools), sum(pool.workers * pool.gpus for pool in pools)
    return f"the workers need {cpus} CPUs and {gpus:g} GPUs, one CPU and their GPUs on one node each"


def _told(resources: dict[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"


def fits(*pools: Pool, free: bool) -> bool:
    """Whether the nodes that are alive hold all workers; `free`: in what nobody uses now."""
    nodes = [[node.get("CPU", 0.0), node.get("GPU", 0.0)] for node in _nodes(free)]
    for pool in sorted(pools, key=lambda pool: -pool.gpus):
        for _ in range(pool.workers):
            room = [node for node in nodes if node[0] >= 1 and node[1] >= pool.gpus - 1e-6]
            if not room:
                return False
            # CPU work goes where no GPU is left without a CPU by it.
            node = min(room, key=lambda node: (node[1], -node[0]))
            node[0] -= 1
            node[1] -= pool.gpus
    return True


def _nodes(free: bool) -> list[dict[str, float]]:
    import ray
    from ray._private.state import available_resources_per_node

    alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    if not free:
        return list(alive.values())
    left = available_resources_per_node()
    return [left.get(name, {}) for name in alive]

"""The stub server of `benchmarks/`, for tests that need a server that fails as told."""

from __future__ import annotations

import importlib.util
import json
import sys
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def benchmark(name: str) -> ModuleType:
    """A script of `benchmarks/` as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def stub(latency: float = 0.0, port: int = 0, **faults: float) -> AbstractContextManager[str]:
    """The base URL of a stub in a process of its own; `_429`, `error_200` and so on are shares of calls."""
    served: AbstractContextManager[str] = benchmark("stub_server").stub(latency, port, **faults)
    return served


def stats(url: str) -> dict[str, Any]:
    """What a stub has done so far."""
    with urllib.request.urlopen(f"{url}/stats") as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found

"""The coverage benchmark, in small: it runs, and no interval is far from what it promises."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "coverage.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_every_interval_holds_the_truth_most_of_the_time(benchmark: ModuleType) -> None:
    large = benchmark.draw(np.random.default_rng(1), 100_000)
    for case in benchmark.CASES:
        share, width, none = benchmark.coverage(case, 50, case.truth(large), 100)
        # At 95%, fewer than 87 of 100 are seen about once in a thousand times.
        assert share >= 0.87, case.name
        assert width > 0, case.name
        assert none < 20, case.name


def test_it_would_notice_an_interval_that_is_too_narrow(benchmark: ModuleType) -> None:
    def narrow(drawn: object, n: int, seed: int) -> tuple[float, float]:
        low, high = benchmark.win_rate(drawn, n, seed)
        middle, half = (low + high) / 2, (high - low) / 4
        return middle - half, middle + half

    case = benchmark.Case("narrow", narrow, benchmark.judge_mean, (50,))
    truth = case.truth(benchmark.draw(np.random.default_rng(1), 100_000))
    assert benchmark.coverage(case, 50, truth, 100)[0] < 0.85

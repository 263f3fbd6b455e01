"""The over-optimisation benchmark, in small: gold and proxy reward are known, and the alarm comes in time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "over_optimisation.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("over_optimisation_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_gold_has_its_peak_where_it_is_said_to_be(benchmark: ModuleType) -> None:
    d = np.linspace(0.01, 8, 2000)
    gold = benchmark.gamed(d)
    assert d[gold.argmax()] == pytest.approx(benchmark.PEAK, abs=0.01)
    assert gold.max() == pytest.approx(benchmark.HEIGHT, abs=1e-4)
    assert gold[-1] < 0
    assert benchmark.honest(np.array([benchmark.PEAK, 9.0])) == pytest.approx([benchmark.HEIGHT] * 2)


def test_the_alarm_comes_within_two_evaluations_of_the_gold_peak(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    runs = [benchmark.train(benchmark.gamed, 128, 0.25, seed, tmp_path) for seed in range(12)]
    assert all(1 < run.peak < benchmark.EVALUATIONS - 2 for run in runs)
    assert not any(benchmark.too_early(run) for run in runs)
    assert sum(map(benchmark.in_time, runs)) >= 11


def test_a_plateau_seldom_raises_it(benchmark: ModuleType, tmp_path: Path) -> None:
    runs = [benchmark.train(benchmark.honest, 128, 0.25, seed, tmp_path) for seed in range(12)]
    assert sum(run.alarm is not None for run in runs) <= 2

"""The simulation of large runs: where it can be worked out by hand it says the same, and no row gets lost."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from prefgen.prices import Price

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "scale.py"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def steady(scale: ModuleType, **other: object):  # type: ignore[no-untyped-def]
    """A service without a surprise: two seconds an answer."""
    return scale.Service(
        **{"name": "x", "median": 2.0, "spread": 0.0, "failing": 0.0, "hanging": 0.0, **other}
    )


# --- calls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "slots"), [(1, 1), (7, 7), (1000, 7), (10, 64)])
def test_steady_calls_take_rounds_of_slots(scale: ModuleType, count: int, slots: int) -> None:
    ran = scale.simulate_calls(count, steady(scale), slots, random.Random(0))
    assert ran.seconds == pytest.approx(math.ceil(count / slots) * 2.0)
    assert (ran.done, ran.tries) == (count, count)
    assert ran.drain == pytest.approx(2.0)


def test_a_limit_a_minute_spaces_the_calls(scale: ModuleType) -> None:
    """60 a minute, of which 5 at once: the 20th begins after 15 s and takes 2."""
    ran = scale.simulate_calls(20, steady(scale, a_minute=60), 100, random.Random(0))
    assert ran.seconds == pytest.approx(17.0)
    # With one slot the slot decides: a call every two seconds never meets the limit.
    ran = scale.simulate_calls(20, steady(scale, a_minute=60), 1, random.Random(0))
    assert ran.seconds == pytest.approx(40.0)


def test_failures_are_tried_again_until_every_call_is_answered(scale: ModuleType) -> None:
    service = steady(scale, failing=0.2, hanging=0.05, deadline=3.0, first_wait=0.0)
    ran = scale.simulate_calls(20_000, service, 50, random.Random(1))
    assert ran.done == 20_000
    assert ran.tries / ran.done == pytest.approx(1 / 0.75, rel=0.02)
    # Of four tries three are answered: per answer 2 s, and a third of (0.2 × 0.4 + 0.05 × 3) / 0.25 s each.
    span = 2.0 + (0.2 * 0.4 + 0.05 * 3.0) / 0.75
    assert ran.a_second == pytest.approx(50 / span, rel=0.02)


def test_the_rate_is_that_of_the_mean_and_the_tail_is_at_the_end(scale: ModuleType) -> None:
    service = steady(scale, spread=0.8, deadline=1e9)
    ran = scale.simulate_calls(50_000, service, 100, random.Random(2))
    assert ran.a_second == pytest.approx(100 / service.mean, rel=0.03)
    assert ran.drain > service.median


# --- shards ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "workers"), [(12, 4), (13, 4), (3, 8)])
def test_shards_without_deaths_take_rounds_of_workers(scale: ModuleType, shards: int, workers: int) -> None:
    ran = scale.simulate_shards([10.0] * shards, workers, 0.0, 60.0, random.Random(0))
    assert ran.seconds == pytest.approx(60 + math.ceil(shards / workers) * 10)
    assert (ran.done, ran.deaths, ran.lost) == (shards, 0, 0.0)


@pytest.mark.parametrize("deaths", [0.0, 0.5, 20.0, 200.0])
def test_every_shard_is_done_once_and_every_second_is_accounted_for(scale: ModuleType, deaths: float) -> None:
    draw = random.Random(3)
    spans = [draw.uniform(1, 60) for _ in range(500)]
    ran = scale.simulate_shards(spans, 16, deaths, 30.0, random.Random(4))
    assert ran.done == len(spans)
    assert ran.useful == pytest.approx(sum(spans))
    assert ran.useful + ran.lost + ran.starting + ran.idle == pytest.approx(ran.seconds * 16)
    assert ran.idle >= -1e-6
    assert ran.starting == pytest.approx(30.0 * (16 + ran.deaths))


def test_what_deaths_cost_is_what_theory_says(scale: ModuleType) -> None:
    """Work of d seconds that is begun anew at each death takes (e^(λd) - 1) / λ seconds on average."""
    rate, span = 60.0, 60.0
    ran = scale.simulate_shards([span] * 20_000, 100, rate, 0.0, random.Random(5))
    expected = (math.exp(rate / 3600 * span) - 1) / (rate / 3600) - span
    assert ran.lost / ran.done == pytest.approx(expected, rel=0.03)


def test_shards_hold_every_row(scale: ModuleType) -> None:
    spans = list(scale.shard_spans(1000, 300, 10.0, random.Random(0)))
    assert len(spans) == 4
    draws = random.Random(0)
    speeds = [draws.lognormvariate(0.0, 0.1) * (3.0 if draws.random() < 0.01 else 1.0) for _ in spans]
    rows = [span * 10.0 / speed for span, speed in zip(spans, speeds, strict=True)]
    assert rows == pytest.approx([300, 300, 300, 100])


# --- the plan ----------------------------------------------------------------------------------------

PRICE = Price(1.0, 10.0, cached_input=0.5, batch=0.5)


def test_dollars_are_tokens_times_prices(scale: ModuleType) -> None:
    job = scale.Job(input=900, output=80, cached=0.5)
    each = (450 * 1.0 + 450 * 0.5 + 80 * 10.0) / 1e6
    assert job.cost(PRICE) == pytest.approx(each)
    client = scale.Client()
    assert scale.plan_batch(10_000, client, job, PRICE).dollars == pytest.approx(10_000 * each / 2)
    assert scale.plan_api(10_000, client, job, PRICE).dollars == pytest.approx(10_000 * each, rel=0.02)
    assert scale.plan_api(10_000, client, job, None).dollars is None
    assert scale.plan_batch(10_000, client, job, None).dollars is None


def test_ten_times_the_judgments_take_ten_times_the_time_and_room(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "SAMPLE", 20_000)
    client, job = scale.Client(), scale.Job()
    for plan in (scale.plan_api, scale.plan_batch):
        one, ten = plan(10_000_000, client, job, PRICE), plan(100_000_000, client, job, PRICE)
        assert ten.hours == pytest.approx(10 * one.hours, rel=0.01)
        assert ten.ledger_gb == pytest.approx(10 * one.ledger_gb)
        assert ten.ledger_gb == pytest.approx(100_000_000 * client.ledger_bytes / 1e9)


def test_what_is_slowest_is_named(scale: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "SAMPLE", 5_000)
    client, job = scale.Client(), scale.Job()
    slow = replace(client, line_ms=100.0)
    assert scale.plan_api(100_000, client, job, PRICE).bottleneck == "requests a minute"
    assert scale.plan_api(100_000, slow, job, PRICE).bottleneck == "client CPU"
    assert scale.plan_api(100_000, slow, job, PRICE).hours == pytest.approx(100_000 * 0.10033 / 3600, rel=0.1)
    monkeypatch.setattr(scale, "API", replace(scale.API, a_minute=None, slots=8))
    assert scale.plan_api(100_000, client, job, PRICE).bottleneck == "calls in flight"
    assert scale.plan_gpus(100_000, client).bottleneck == "GPUs"
    assert scale.plan_gpus(100_000, replace(client, publish_ms=1000.0)).bottleneck == "driver CPU"


def test_the_client_is_measured_on_a_real_run(scale: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    measured = scale.measure(scale.Client(), prompts=40)
    assert measured.publish_ms > 0
    assert measured.line_ms > 0
    assert measured.call_ms == scale.Client().call_ms


def test_the_page_shows_what_the_script_prints(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scale.py"])
    scale.main()
    printed = capsys.readouterr().out
    assert f"```\n{printed}```" in (ROOT / "docs" / "scale.md").read_text("utf-8")

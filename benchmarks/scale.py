"""How big can a run be: machines, hours, dollars and bytes of 10 thousand, 1 and 100 million judgments.

    python benchmarks/scale.py [--judgments N …] [--judge openai/gpt-4.1-mini] [--measure]

Calls and shards are simulated event by event: calls share slots and a number of requests a minute, take times
with a heavy tail, fail, hang and are tried again; shards go to workers that die. What has to be known of
prefgen was measured (`Client`); `--measure` does it anew on this machine. What has to be known of providers
and GPUs (`API`, `GPU`) is assumed: your account and your model have other figures.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefgen.prices import Price, find_price

GB = 1e9
DRAWS = 20
SAMPLE = 200_000
"""Calls that are simulated of a larger run: the rest goes at the rate of these."""


@dataclass(frozen=True, slots=True)
class Client:
    """What prefgen itself costs. Per judgment, with its share of sampling, pairing and tables."""

    line_ms: float = 1.5  # CPU; `--measure` prints it.
    call_ms: float = 0.33  # CPU, ledger included: benchmarks/engine.py --jobs judge --clients prefgen
    publish_ms: float = 0.4  # CPU, of line_ms, in one process (the driver) whatever the workers: `--measure`
    ledger_us: float = 47.0  # CPU of a row; the driver writes every answer: benchmarks/ledger.py
    ledger_bytes: float = 859.0  # benchmarks/ledger.py
    table_bytes: float = 600.0  # parquet, for texts of about 900 characters
    memory_mb: float = 269.0  # benchmarks/memory.py --prompts 8000 32000
    memory_a_prompt: float = 60.0  # bytes, while near-duplicates are grouped: prefgen/splits.py

    @property
    def a_second(self) -> float:
        """Judgments that one process can do."""
        return 1000 / (self.line_ms + self.call_ms)

    @property
    def driver_a_second(self) -> float:
        return 1000 / (self.publish_ms + self.ledger_us / 1000)


@dataclass(frozen=True, slots=True)
class Service:
    """Who answers. Times in seconds. `slots`: calls in flight of one worker; `median` and `spread` (sigma of
    a log-normal) of one answer; `failing`: share of tries that end in a 5xx after a fifth of the time;
    `hanging`: share that meets the deadline; `a_minute`: requests allowed in a minute, None: no limit."""

    name: str
    slots: int = 256
    median: float = 1.0
    spread: float = 0.6
    failing: float = 0.005
    hanging: float = 0.0005
    deadline: float = 60.0
    a_minute: float | None = None
    first_wait: float = 0.5

    @property
    def mean(self) -> float:
        """Of one try that is answered."""
        return self.median * math.exp(self.spread**2 / 2)


@dataclass(frozen=True, slots=True)
class Calls:
    """`drain`: seconds at the end in which no call was left to begin."""

    seconds: float
    drain: float
    done: int
    tries: int

    @property
    def a_second(self) -> float:
        """While there are calls to begin."""
        return self.done / max(self.seconds - self.drain, 1e-9)


def simulate_calls(count: int, service: Service, slots: int, draw: random.Random) -> Calls:
    """Every call from its start to its answer; a slot is held while a call waits to be tried again."""
    free = [0.0] * min(slots, count)
    rate = None if service.a_minute is None else service.a_minute / 60
    # As in prefgen/pace.py: a twelfth of a minute's requests may come at once.
    most = left = max(1.0, (rate or 0.0) * 5)
    filled = last_start = end = 0.0
    tries = 0
    for _ in range(count):
        start = heapq.heappop(free)
        spans, attempts = _one_call(service, draw)
        tries += attempts
        if rate is not None:
            start = max(start, filled)
            left = min(most, left + (start - filled) * rate) - attempts
            filled = start
            if left < 0:
                start -= left / rate
                filled, left = start, 0.0
        last_start = max(last_start, start)
        end = max(end, start + spans)
        heapq.heappush(free, start + spans)
    return Calls(end, end - last_start, count, tries)


def _one_call(service: Service, draw: random.Random) -> tuple[float, int]:
    """Seconds from the first try to the answer, and how many tries there were."""
    seconds, attempts = 0.0, 0
    while True:
        attempts += 1
        luck = draw.random()
        span = (
            service.median * math.exp(draw.gauss(0.0, service.spread)) if service.spread else service.median
        )
        if luck < service.hanging or span > service.deadline:
            seconds += service.deadline
        elif luck < service.hanging + service.failing:
            seconds += span / 5
        else:
            return seconds + span, attempts
        seconds += min(30.0, service.first_wait * 2 ** (attempts - 1)) + draw.random() * service.first_wait


@dataclass(frozen=True, slots=True)
class Shards:
    """`seconds`: from start to end. `useful`, `lost`, `starting` and `idle` are worker-seconds: together,
    `seconds` times the workers."""

    seconds: float
    useful: float
    lost: float
    starting: float
    idle: float
    done: int
    deaths: int


def simulate_shards(
    spans: Sequence[float], workers: int, deaths_an_hour: float, start: float, draw: random.Random
) -> Shards:
    """`spans`: seconds of each shard on one worker. A worker that dies loses the shard it is at, and its
    place is taken after `start` seconds, which every worker needs before its first shard as well."""
    free = [(start, number) for number in range(workers)]
    heapq.heapify(free)
    lost, done, deaths, end = 0.0, 0, 0, start
    for span in spans:
        now, worker = heapq.heappop(free)
        while deaths_an_hour and (life := draw.expovariate(deaths_an_hour / 3600)) < span:
            lost, deaths, now = lost + life, deaths + 1, now + life + start
        heapq.heappush(free, (now + span, worker))
        done, end = done + 1, max(end, now + span)
    useful, starting = sum(spans), (workers + deaths) * start
    return Shards(end, useful, lost, starting, workers * end - useful - lost - starting, done, deaths)


# -------------------------------------------------------------------------------------------------- the plan


@dataclass(frozen=True, slots=True)
class Job:
    """One judgment. `cached`: share of input tokens the provider has seen before; `output`: with a reason."""

    input: int = 900
    output: int = 80
    cached: float = 0.5

    def cost(self, price: Price) -> float:
        return price.cost(self.input, self.output, round(self.input * self.cached))


@dataclass(frozen=True, slots=True)
class Plan:
    service: str
    judgments: int
    machines: int
    hours: float
    dollars: float | None
    ledger_gb: float
    tables_gb: float
    memory_gb: float
    bottleneck: str


API = Service("API", slots=1024, median=1.2, a_minute=30_000)
GPU = Service("own GPUs", slots=256, median=2.4, spread=0.5, failing=0.0, hanging=0.0)
BATCH_HOURS, BATCH_QUEUE = 12.0, 5_000_000
"""Assumed: hours from sending to the last answer, and requests an account may have waiting."""
GPU_DOLLARS, GPU_START, GPU_DEATHS = 2.5, 180.0, 0.02
"""Assumed: of an hour; seconds to load the model; deaths of a worker an hour (spot machines)."""
SHARD, JUDGMENTS_A_PROMPT = 512, 2
"""A shard of 128 prompts, each with one pair of responses judged in both orders, is 256 judgments, and a
worker is at two shards at once."""
FLEET = {10_000: 1, 1_000_000: 8, 100_000_000: 64}
"""GPUs, one worker each."""


def plan_api(count: int, client: Client, job: Job, price: Price | None) -> Plan:
    sample = simulate_calls(min(count, SAMPLE), API, API.slots, random.Random(0))
    answered = sample.done / sample.tries
    limits = {
        "requests a minute": math.inf if API.a_minute is None else API.a_minute / 60 * answered,
        "calls in flight": API.slots / API.mean * answered,
        "client CPU": client.a_second,
    }
    seconds = count / min(sample.a_second, client.a_second) + sample.drain
    # A try that got no answer may be charged like one that did.
    dollars = None if price is None else job.cost(price) * count / answered
    return _plan(API.name, count, 1, seconds, dollars, client, min(limits, key=limits.__getitem__))


def plan_batch(count: int, client: Client, job: Job, price: Price | None) -> Plan:
    waiting, working = math.ceil(count / BATCH_QUEUE) * BATCH_HOURS * 3600, count / client.a_second
    dollars = None if price is None else job.cost(price) * price.batch * count
    bottleneck = "the batch queue" if waiting >= working else "client CPU"
    return _plan("API, batches", count, 1, max(waiting, working), dollars, client, bottleneck)


def plan_gpus(count: int, client: Client) -> Plan:
    """Each GPU is a worker with a client process of its own; the driver publishes what they send."""
    workers = FLEET.get(count) or max(1, math.ceil(count / 1_500_000))
    sample = simulate_calls(min(count, SAMPLE), GPU, GPU.slots, random.Random(0))
    each = min(sample.a_second, client.a_second)
    limits = {
        "GPUs": sample.a_second * workers,
        "client CPU": client.a_second * workers,
        "driver CPU": client.driver_a_second,
    }
    spans = shard_spans(count, SHARD, each, random.Random(1))
    ran = simulate_shards(list(spans), workers, GPU_DEATHS, GPU_START, random.Random(2))
    seconds = max(ran.seconds, count / client.driver_a_second)
    dollars = seconds / 3600 * workers * GPU_DOLLARS
    return _plan(GPU.name, count, workers, seconds, dollars, client, min(limits, key=limits.__getitem__))


def shard_spans(count: int, size: int, a_second: float, draw: random.Random) -> Iterator[float]:
    """Seconds of each shard: by its rows and by how fast it happens to go, one in a hundred at a third of the
    usual speed."""
    for first in range(0, count, size):
        rows = min(size, count - first)
        yield rows / a_second * draw.lognormvariate(0.0, 0.1) * (3.0 if draw.random() < 0.01 else 1.0)


def _plan(
    service: str,
    count: int,
    machines: int,
    seconds: float,
    dollars: float | None,
    client: Client,
    bottleneck: str,
) -> Plan:
    prompts = count / JUDGMENTS_A_PROMPT
    memory = client.memory_mb / 1000 + prompts * client.memory_a_prompt / GB
    ledger, tables = count * client.ledger_bytes / GB, count * client.table_bytes / GB
    return Plan(service, count, machines, seconds / 3600, dollars, ledger, tables, memory, bottleneck)


# ------------------------------------------------------------------------------------------------ measuring


def measure(client: Client, prompts: int = 1000) -> Client:
    """CPU of a whole run with models that cost next to nothing, and of publishing it once more."""
    with tempfile.TemporaryDirectory() as home:
        file, run = Path(home) / "prompts.jsonl", Path(home) / "run"
        rows = (f"Question {n}: how does part {n * 7919} differ from {n}?" for n in range(prompts))
        file.write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows))
        models = ["--policy", "scripted/writer", "--judge", "scripted/judge", "--n", "2"]
        ledger = ["--ledger", str(Path(home) / "ledger.sqlite")]
        line = _cpu(["generate", str(file), *models, *ledger, "--out", str(run)])
        again = _cpu(["pair", str(run), "--out", str(Path(home) / "again")])
        judged = json.loads((run / "manifest.json").read_text())["counts"]["judgments"]
    return replace(client, line_ms=1000 * line / judged, publish_ms=1000 * again / judged)


def _cpu(command: list[str]) -> float:
    from pipelines.cli import main as prefgen

    start = time.process_time()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        prefgen([*command, "--quiet", "--json"])
    return time.process_time() - start


# ------------------------------------------------------------------------------------------------- printing


def print_plans(counts: Sequence[int], client: Client, judge: str) -> None:
    price, job = find_price(judge, {}), Job()
    head = (
        "judgments",
        "served by",
        "machines",
        "hours",
        "dollars",
        "ledger",
        "tables",
        "memory",
        "held back by",
    )
    print("  ".join(f"{name:>12}" for name in head))
    for count in counts:
        plans = [plan_api(count, client, job, price), plan_batch(count, client, job, price)]
        for plan in (*plans, plan_gpus(count, client)):
            cost = "unknown" if plan.dollars is None else f"{plan.dollars:,.0f}"
            cells = (f"{plan.judgments:,}", plan.service, f"{plan.machines}", f"{plan.hours:,.2f}", cost)
            sizes = (f"{size:,.2f} GB" for size in (plan.ledger_gb, plan.tables_gb, plan.memory_gb))
            print("  ".join(f"{cell:>12}" for cell in (*cells, *sizes, plan.bottleneck)))


def print_shards(client: Client, count: int = 1_000_000, workers: int = 8) -> None:
    sample = simulate_calls(20_000, GPU, GPU.slots, random.Random(0))
    each = min(sample.a_second, client.a_second)
    print(
        f"{count:,} judgments, {workers} workers: time that was of use (lost with workers, idle at the end)"
    )
    rates = (0.0, 0.02, 0.5)
    print(f"{'a shard':>10}  " + "  ".join(f"{rate:>18g} deaths/h" for rate in rates))
    for size in (256, 1024, 4096, 16_384, 65_536):
        cells = []
        for rate in rates:
            runs = [
                simulate_shards(
                    list(shard_spans(count, size, each, random.Random(seed))),
                    workers,
                    rate,
                    GPU_START,
                    random.Random(seed + 1000),
                )
                for seed in range(DRAWS)
            ]
            used, lost, idle = (
                sum(getattr(run, name) for run in runs) / sum(run.seconds * workers for run in runs)
                for name in ("useful", "lost", "idle")
            )
            cells.append(f"{used:6.1%} ({lost:5.1%}, {idle:5.1%})")
        print(f"{size:10,}  " + "  ".join(f"{cell:>27}" for cell in cells))


def print_calls(count: int = 20_000) -> None:
    print(f"{count:,} calls, {API.slots} at once, by deadline: tries a call, calls a second, last seconds")
    for deadline in (600.0, 60.0, 15.0, 5.0):
        ran = simulate_calls(count, replace(API, deadline=deadline), API.slots, random.Random(0))
        print(f"{deadline:8.0f} s  {ran.tries / ran.done:6.3f}  {ran.a_second:7.0f}  {ran.drain:7.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--judgments", nargs="+", type=int, default=[10_000, 1_000_000, 100_000_000])
    parser.add_argument("--judge", default="openai/gpt-4.1-mini", help="whose price is taken")
    parser.add_argument("--measure", action="store_true", help="measure the client on this machine")
    given = parser.parse_args()
    client = measure(Client()) if given.measure else Client()
    print(
        f"client: {client.line_ms:.2f} + {client.call_ms:.2f} ms of CPU a judgment, {client.a_second:,.0f} a "
        f"second and process; driver: {client.publish_ms:.2f} ms and {client.ledger_us:.0f} µs, "
        f"{client.driver_a_second:,.0f} a second; a GPU: {GPU.slots / GPU.mean:.0f} a second"
    )
    print()
    print_plans(given.judgments, client, given.judge)
    print()
    print_shards(client)
    print()
    print_calls()


if __name__ == "__main__":
    main()

"""Calls to a server that answers after 200 ms: what we and others add to it, in wall time and in CPU.

    python benchmarks/engine.py [--jobs judge sample wide] [--clients prefgen aiohttp openai-sdk …]
    python benchmarks/engine.py --python distilabel=PATH/bin/python   (its packages do not fit beside ours)

Ideal = calls / concurrency × latency. Each client runs in a process of its own; prefgen's is the whole way of
a call: adapter, engine, ledger (each answer on disk before it counts). The stub's own ceiling comes first: a
client of a few lines that does nothing but write and read. Machines differ: read the figures as ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stub_server import stub

LATENCY = 0.2
QUESTION = "Which of the two responses is better? Answer A or B.\n" + "words of a response " * 40


@dataclass(frozen=True, slots=True)
class Job:
    """`draws`: completions a call; one with more is sampling, else it is a judge's question."""

    calls: int
    concurrency: int
    draws: int = 1

    @property
    def ideal(self) -> float:
        return self.calls / self.concurrency * LATENCY


JOBS = {
    "judge": Job(8_000, 256),
    "sample": Job(4_000, 256, draws=4),
    "wide": Job(16_000, 1_024),
}
Figures = tuple[float, float]
"""Wall and CPU seconds."""
Send = Callable[[int], Awaitable[None]]


async def drive(job: Job, send: Send, askers: int | None = None) -> None:
    """All calls, `concurrency` at once; `askers` where the client itself holds back those beyond."""
    numbers = iter(range(job.calls))

    async def asker() -> None:
        for number in numbers:
            await send(number)

    await asyncio.gather(*(asker() for _ in range(askers or job.concurrency)))


def payload(job: Job, number: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "stub",
        "messages": [{"role": "user", "content": f"{number}: {QUESTION}"}],
        "temperature": 0.0,
    }
    if job.draws > 1:
        return body | {"max_tokens": 256, "n": job.draws, "temperature": 1.0}
    return body | {"max_tokens": 4, "logprobs": True, "top_logprobs": 20}


async def by_prefgen(url: str, job: Job) -> None:
    from prefgen.budget import Account
    from prefgen.completion import CompletionRequest, Sampling
    from prefgen.engine import EngineModel, Limits
    from prefgen.ledger import Ledger
    from prefgen.messages import user
    from prefgen.models.openai import OpenAIModel
    from prefgen.recorded import RecordedModel

    sampling = Sampling(256, temperature=1.0) if job.draws > 1 else Sampling(4, temperature=0.0)
    words = () if job.draws > 1 else ("A", "B")
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        engine = EngineModel(OpenAIModel("stub", "openai/stub", url), Limits(job.concurrency), Account())
        model = RecordedModel(engine, ledger)

        async def send(number: int) -> None:
            await model.complete(
                CompletionRequest(
                    user(f"{number}: {QUESTION}"), sampling, tuple(range(job.draws)), words, words
                )
            )

        # As in a run: twice as many ask, and the gate lets in no more than may be in flight.
        await drive(job, send, askers=2 * job.concurrency)
        await model.aclose()


async def by_aiohttp(url: str, job: Job) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(number: int) -> None:
            async with session.post(f"{url}/chat/completions", json=payload(job, number)) as answer:
                await answer.json()

        await drive(job, send)


async def by_openai_sdk(url: str, job: Job) -> None:
    import openai

    client = openai.AsyncOpenAI(api_key="none", base_url=url)

    async def send(number: int) -> None:
        await client.chat.completions.create(**payload(job, number))

    await drive(job, send)


async def by_distilabel(url: str, job: Job) -> None:
    from distilabel.models import OpenAILLM

    model = OpenAILLM(model="stub", base_url=url, api_key="none")
    model.load()

    async def send(number: int) -> None:
        messages = payload(job, number)["messages"]
        await model.agenerate(input=messages, num_generations=job.draws, max_new_tokens=256)

    await drive(job, send)


CLIENTS = {
    "prefgen": by_prefgen,
    "aiohttp": by_aiohttp,
    "openai-sdk": by_openai_sdk,
    "distilabel": by_distilabel,
}
_NEEDS = {"aiohttp": "aiohttp", "distilabel": "distilabel"}


class _Bare(asyncio.Protocol):
    """Writes a request, waits for the whole answer, and that is all it does."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.rpartition(b"content-length: ")[2].split(b"\r\n")[0]):
            self.buffer = b""
            self.done.set_result(None)


async def by_bare_protocol(url: str, job: Job) -> None:
    loop = asyncio.get_running_loop()
    port = int(url.rpartition(":")[2].partition("/")[0])
    free: list[_Bare] = []

    async def send(number: int) -> None:
        bare = free.pop() if free else (await loop.create_connection(_Bare, "127.0.0.1", port))[1]
        body = json.dumps(payload(job, number)).encode()
        bare.done = loop.create_future()
        bare.transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        await bare.done
        free.append(bare)

    await drive(job, send)
    for bare in free:
        bare.transport.close()


def measure(client: str, job: Job, url: str) -> None:
    """In a process of its own: prints wall and CPU seconds of the calls as JSON."""
    run = by_bare_protocol if client == "bare" else CLIENTS[client]
    _run(run(url, replace(job, calls=64)))  # Imports are not what is measured.
    held: AbstractContextManager[None] = nullcontext()
    if client == "prefgen":
        from pipelines.waiting import lean

        held = lean()  # As its commands do.
    with held:
        start, cpu = time.perf_counter(), time.process_time()
        _run(run(url, job))
        print(json.dumps([time.perf_counter() - start, time.process_time() - cpu]))


def _run(work: Coroutine[Any, Any, None]) -> None:
    if find_spec("uvloop") is None:
        asyncio.run(work)
    else:
        import uvloop

        uvloop.run(work)


def measured(client: str, name: str, job: Job, latency: float, python: str = sys.executable) -> Figures:
    with stub(latency) as url:
        command = [python, __file__, "--measure", client, name, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{client}: {done.stderr[-2000:]}")
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu


def installed(clients: list[str], elsewhere: Mapping[str, str]) -> Iterator[str]:
    for client in clients:
        if client not in elsewhere and client in _NEEDS and find_spec(_NEEDS[client]) is None:
            print(f"{client}: not installed here")
        else:
            yield client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--clients", nargs="+", choices=list(CLIENTS), default=list(CLIENTS))
    parser.add_argument("--python", nargs="*", default=[], metavar="CLIENT=PATH", help="its interpreter")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        client, name, url = options.measure
        measure(client, JOBS[name], url)
        return
    wall, cpu = measured("bare", "judge", JOBS["judge"], 0.0)
    print(f"stub, no latency: {JOBS['judge'].calls / wall:.0f} calls/s answered to a bare protocol")
    elsewhere = dict(text.split("=", 1) for text in options.python)
    clients = list(installed(options.clients, elsewhere))
    for name in options.jobs:
        job = JOBS[name]
        print(f"{name}: {job.calls} calls, {job.concurrency} at once, n={job.draws}; ideal {job.ideal:.2f} s")
        for client in clients:
            wall, cpu = measured(client, name, job, LATENCY, elsewhere.get(client, sys.executable))
            print(
                f"  {client:12s} wall / ideal {wall / job.ideal:5.2f}   "
                f"{1000 * cpu / job.calls:5.2f} s of CPU per 1,000 calls"
            )


if __name__ == "__main__":
    main()

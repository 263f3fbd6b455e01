"""4,000 calls to a server that answers after 200 ms and fails often: what is lost, and how long it takes.

5% 429, 2% 500, 1% no answer at all, 1% cut JSON; a deadline of 1 s. Ideal = calls / concurrency × latency.
Beside ours the OpenAI SDK's client with its own two retries. Machines differ: read the figures as ratios.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import openai
from stub_server import stub

from prefgen.budget import Account
from prefgen.completion import CompletionRequest, Sampling
from prefgen.engine import EngineModel, Limits
from prefgen.errors import CallError
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models import open_model
from prefgen.recorded import RecordedModel

CALLS, CONCURRENCY, LATENCY, DEADLINE = 4000, 256, 0.2, 1.0
FAULTS = {"_429": 0.05, "_500": 0.02, "hang": 0.01, "malformed": 0.01}
Ask = Callable[[int], Awaitable[str]]


async def drive(ask: Ask) -> tuple[float, list[str]]:
    """Seconds on the wall, and the answers that came, CONCURRENCY asked for at once."""
    numbers, answers = iter(range(CALLS)), list[str]()

    async def asker() -> None:
        for number in numbers:
            try:
                answers.append(await ask(number))
            except (CallError, openai.APIError, ValueError):
                continue

    began = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(CONCURRENCY)))
    return time.perf_counter() - began, answers


async def ours(url: str, folder: Path) -> tuple[float, list[str], str]:
    with Ledger(folder / "ledger.sqlite") as ledger:
        model = await open_model(f"openai/w@{url}")
        behind = RecordedModel(EngineModel(model, Limits(CONCURRENCY, deadline=DEADLINE), Account()), ledger)

        async def ask(number: int) -> str:
            request = CompletionRequest(user(f"question {number}"), Sampling(max_tokens=50))
            return (await behind.complete(request)).completions[0].text

        seconds, answers = await drive(ask)
        await behind.aclose()
        ((rows,),) = ledger.read("SELECT count(*) FROM answers")
    return seconds, answers, f", {rows} rows in the ledger"


async def sdk(url: str) -> tuple[float, list[str], str]:
    async with openai.AsyncOpenAI(api_key="none", base_url=url, timeout=DEADLINE) as client:

        async def ask(number: int) -> str:
            reply = await client.chat.completions.create(
                model="w", messages=[{"role": "user", "content": f"question {number}"}], max_tokens=50
            )
            return str(reply.choices[0].message.content)

        return *await drive(ask), ""


def tell(name: str, url: str, seconds: float, answers: list[str], more: str) -> None:
    with urllib.request.urlopen(f"{url}/stats") as said:
        seen = json.loads(said.read())
    failed = ", ".join(f"{seen.get(fault, 0)} {fault}" for fault in ("429", "500", "hang", "malformed"))
    print(
        f"{name:32} {seconds / (CALLS / CONCURRENCY * LATENCY):5.2f} × ideal; lost {CALLS - len(answers)}, "
        f"twice {len(answers) - len(set(answers))}{more}; the server gave {failed}"
    )


async def main() -> None:
    for faults in ({}, FAULTS):
        kind = "faults" if faults else "no faults"
        with tempfile.TemporaryDirectory() as folder, stub(LATENCY, **faults) as url:
            tell(f"prefgen, {kind}", url, *await ours(url, Path(folder)))
    with stub(LATENCY, **FAULTS) as url:
        tell("OpenAI SDK, 2 retries, faults", url, *await sdk(url))


if __name__ == "__main__":
    asyncio.run(main())

"""Engine and ledger around a model that answers after 200 ms: wall time over the ideal, and client CPU.

Ideal = calls / concurrency × latency. No network is involved; what is measured is our own overhead.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from prefgen.budget import Account
from prefgen.completion import CompletionRequest
from prefgen.engine import EngineModel, Limits
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models.scripted import ScriptedModel
from prefgen.recorded import RecordedModel

CALLS, LATENCY = 8_000, 0.2


async def run(ledger: Ledger, concurrency: int) -> tuple[float, float]:
    """(wall seconds, CPU seconds) for CALLS calls."""
    model = ScriptedModel(lambda request, sample: "A", f"scripted/{concurrency}", LATENCY)
    recorded = RecordedModel(EngineModel(model, Limits(concurrency), Account()), ledger)
    requests = iter([CompletionRequest(user(f"question {number}")) for number in range(CALLS)])
    start, cpu = time.perf_counter(), time.process_time()

    async def asker() -> None:
        for request in requests:
            await recorded.complete(request)

    await asyncio.gather(*(asker() for _ in range(2 * concurrency)))
    return time.perf_counter() - start, time.process_time() - cpu


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        for concurrency in (64, 256, 1024):
            wall, cpu = asyncio.run(run(ledger, concurrency))
            ideal = CALLS / concurrency * LATENCY
            print(
                f"concurrency {concurrency:4d}: wall / ideal {wall / ideal:.2f}, "
                f"{1000 * cpu / CALLS:.2f} s of CPU per 1,000 calls"
            )


if __name__ == "__main__":
    main()

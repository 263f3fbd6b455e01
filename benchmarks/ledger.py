"""Ledger: committed writes and look-ups a second, with rows of about 1.5 KB."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from prefgen.ledger import Ledger, ledger_key

ROWS = 20_000


async def write(ledger: Ledger, waiting: int) -> float:
    """Seconds to store ROWS rows by `waiting` writers, each row on disk before its writer goes on."""
    keys = iter([ledger_key("bench", os.urandom(8).hex()) for _ in range(ROWS)])
    value = {"text": os.urandom(560).hex(), "finish_reason": "stop", "served": "bench"}
    start = time.perf_counter()

    async def writer() -> None:
        for key in keys:
            await ledger.put("bench", {key: value})

    await asyncio.gather(*(writer() for _ in range(waiting)))
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        for waiting in (1, 64, 256):
            start = time.process_time()
            seconds = asyncio.run(write(ledger, waiting))
            cpu = time.process_time() - start
            print(
                f"{waiting:4d} at once: {ROWS / seconds:8.0f} committed writes/s, "
                f"{1e6 * cpu / ROWS:5.0f} µs of CPU each"
            )
        keys = [ledger_key("bench", index) for index in range(ROWS)]
        asyncio.run(ledger.put("bench", {key: {"text": "x" * 1000} for key in keys}))
        start = time.perf_counter()
        for key in keys:
            ledger.get([key])
        print(f"look-ups: {ROWS / (time.perf_counter() - start):.0f}/s")


if __name__ == "__main__":
    main()

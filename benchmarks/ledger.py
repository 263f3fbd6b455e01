"""Ledger: committed writes and look-ups a second, what they cost, and how that changes as the file grows.

Rows are texts of 300 to 1,500 characters. `--rows 1000000` for a ledger of a million (some minutes).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prefgen.ledger import Ledger
from prefgen.ledger_values import Packer
from prefgen.messages import Json

WRITERS = 256
BATCH = 500


def texts(count: int = 2000) -> list[dict[str, Json]]:
    words = Path(__file__).read_text(encoding="utf-8").split()
    draw = random.Random(0)
    return [
        {
            "text": " ".join(draw.choices(words, k=300))[: draw.randint(300, 1500)],
            "finish_reason": "stop",
            "label_logprobs": None,
            "input_tokens": draw.randint(50, 500),
            "output_tokens": draw.randint(50, 300),
            "cached_tokens": None,
            "served": "some-model-2026-01-01",
        }
        for _ in range(count)
    ]


VALUES = texts()


def key(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


@dataclass(frozen=True)
class Spent:
    """Seconds for `rows` rows: on the wall, and of CPU in all threads."""

    rows: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.rows / self.wall

    @property
    def cpu_us(self) -> float:
        return 1e6 * self.cpu / self.rows


async def write(ledger: Ledger, numbers: Iterator[int], writers: int) -> Spent:
    """All numbers stored by so many writers, each row on disk before its writer goes on."""
    rows = 0

    async def writer() -> None:
        nonlocal rows
        for number in numbers:
            await ledger.put("bench", {key(number): VALUES[number % len(VALUES)]})
            rows += 1

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(writer() for _ in range(writers)))
    return Spent(rows, time.perf_counter() - wall, time.process_time() - cpu)


def bare(path: Path, count: int) -> Spent:
    """The ceiling: packed rows into the same table by SQLite alone, BATCH in a transaction."""
    with Ledger(path):
        pass
    packed = [Packer().pack(value) for value in VALUES]
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = NORMAL")
    rows = [(key(number), packed[number % len(packed)], "bench") for number in range(count)]
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, count, BATCH):
        with connection:
            connection.executemany(
                "INSERT OR IGNORE INTO answers (key, value, model) VALUES (?, ?, ?)",
                rows[start : start + BATCH],
            )
    spent = Spent(count, time.perf_counter() - wall, time.process_time() - cpu)
    connection.close()
    return spent


def look_up(ledger: Ledger, numbers: list[int]) -> Spent:
    keys = [key(number) for number in numbers]
    wall, cpu = time.perf_counter(), time.process_time()
    for one in keys:
        ledger.get([one])
    return Spent(len(keys), time.perf_counter() - wall, time.process_time() - cpu)


def memory() -> float:
    """MB this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def compare(folder: Path, count: int) -> None:
    ceiling = bare(folder / "bare.sqlite", count)
    print(f"bare SQLite, {BATCH} a commit: {ceiling.rate:7.0f} rows/s, {ceiling.cpu_us:4.0f} µs of CPU each")
    for writers in (1, 64, WRITERS):
        with Ledger(folder / f"{writers}.sqlite") as ledger:
            spent = asyncio.run(write(ledger, iter(range(count)), writers))
        print(
            f"ledger, {writers:3d} writers: {spent.rate:7.0f} committed rows/s, "
            f"{spent.cpu_us:4.0f} µs of CPU each ({spent.cpu_us / ceiling.cpu_us:.1f} of bare)"
        )


def grow(path: Path, count: int, slices: int = 10) -> None:
    draw = random.Random(1)
    with Ledger(path) as ledger:
        before = memory()
        for part in range(slices):
            numbers = range(part * count // slices, (part + 1) * count // slices)
            spent = asyncio.run(write(ledger, iter(numbers), WRITERS))
            sample = [draw.randrange(numbers.stop) for _ in range(5000)]
            known, unknown = look_up(ledger, sample), look_up(ledger, [-1 - number for number in sample])
            print(
                f"{numbers.stop:9d} rows: {spent.rate:6.0f} written/s, {spent.cpu_us:3.0f} µs of CPU each; "
                f"looked up: {known.rate:6.0f} known/s, {unknown.rate:6.0f} unknown/s; "
                f"memory {memory() - before:+5.0f} MB"
            )
    size = path.stat().st_size
    text = sum(len(str(value["text"]).encode()) for value in VALUES) / len(VALUES)
    print(f"on disk: {size / 1e6:.0f} MB, {size / count:.0f} bytes a row of {text:.0f} bytes of text")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), min(count, 20_000))
        grow(Path(folder) / "ledger.sqlite", count)


if __name__ == "__main__":
    main()

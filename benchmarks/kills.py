"""kill -9 at random moments of a run, resumed each time: what is left, and what was paid twice.

A real `prefgen generate` on scripted models runs in forked processes (everything is imported once); each is
killed at a moment drawn from its whole length, and gone on with by `--resume` until one comes to its end. Its
tables must be those of a run that was left alone, and a call may be sent again only if it was in flight when
its process was killed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.cli import main as prefgen
from prefgen.completion import CompletionRequest, Reply
from prefgen.models.scripted import ScriptedModel

CONCURRENCY = 4
SAMPLES = 4
TABLES = ("candidates", "judgments", "scores", "planted", "undecided", "dpo/train", "dpo/test", "kto/train",
          "kto/test")  # fmt: skip


@dataclass
class Told:
    """What many killed runs came to. `most_in_flight`: samples sent and not stored, at one kill."""

    kills: int = 0
    finished: int = 0
    sent: int = 0
    sent_again: int = 0
    most_in_flight: int = 0
    faults: list[str] = field(default_factory=list)
    without_manifest: int = 0


class Site:
    """A folder with prompts, and runs in it: `whole`, left alone, and the killed ones."""

    def __init__(self, folder: Path, prompts: int, latency: float) -> None:
        self.folder, self.latency = folder, latency
        kinds = ("a late parcel", "a broken lamp", "a double charge", "a wrong size", "a lost password")
        texts = [f"Customer {n * 37} writes about {kinds[n % 5]}: what now?" for n in range(prompts)]
        lines = "".join(json.dumps({"prompt": text}) + "\n" for text in texts)
        (folder / "p.jsonl").write_text(lines)

    def arguments(self, name: str, *more: str) -> list[str]:
        given = [
            "generate", self.folder / "p.jsonl", "--policy", "scripted/writer", "--judge", "scripted/judge",
            "--out", self.folder / name, "--ledger", self.folder / f"{name}.sqlite", "--n", SAMPLES,
            "--concurrency", CONCURRENCY, "--engine-arg", f"latency={self.latency}", "--quiet",
            "--strategy", "all", "--max-pairs", 3, "--test-share", 0.3, *more,
        ]  # fmt: skip
        return [str(item) for item in given]

    def start(self, name: str, *more: str) -> int:
        """A run in a process forked from this one; its id."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            _print_to(self.folder / f"{name}.log")
            _note_calls(self.folder / f"{name}.calls")
            prefgen(self.arguments(name, *more))
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def sent(self, name: str) -> list[str]:
        """The key of every sample sent, in order."""
        path = self.folder / f"{name}.calls"
        return path.read_text().split() if path.exists() else []

    def stored(self, name: str) -> set[str]:
        path = self.folder / f"{name}.sqlite"
        if not path.exists():
            return set()
        with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.OperationalError):
            return {key.hex() for (key,) in connection.execute("SELECT key FROM answers")}
        return set()

    def paid(self, name: str) -> tuple[int, ...]:
        """Requests and tokens that the ledger says were paid."""
        with closing(sqlite3.connect(self.folder / f"{name}.sqlite")) as connection:
            sums = "sum(requests), sum(input_tokens), sum(output_tokens)"
            found: tuple[int, ...] = connection.execute(f"SELECT {sums} FROM spending").fetchone()
            return found

    def tables(self, name: str) -> dict[str, list[dict[str, Any]]]:
        paths = {table: self.folder / name / f"{table}.parquet" for table in TABLES}
        return {
            table: pq.ParquetFile(path).read(use_threads=False).to_pylist() if path.exists() else []
            for table, path in paths.items()
        }

    def files(self, name: str) -> set[str]:
        home = self.folder / name
        return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


def _print_to(path: Path) -> None:
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)


def _note_calls(path: Path) -> None:
    """From here on this process writes the ledger key of every sample it sends."""
    from prefgen.recorded import RecordedModel

    complete, asked = ScriptedModel.complete, RecordedModel._complete
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    keys: dict[tuple[str, str, int], str] = {}

    def named(identity: str, request: CompletionRequest, sample: int) -> tuple[str, str, int]:
        return identity, repr(request.identity()), sample

    async def asking(self: RecordedModel, request: CompletionRequest, known: dict[int, bytes]) -> Reply:
        keys.update({named(self.identity, request, sample): key.hex() for sample, key in known.items()})
        return await asked(self, request, known)

    async def noted(self: ScriptedModel, request: CompletionRequest) -> Reply:
        lines = (keys[named(self.identity, request, sample)] + "\n" for sample in request.samples)
        os.write(log, "".join(lines).encode())
        return await complete(self, request)

    RecordedModel._complete = asking  # type: ignore[method-assign]
    ScriptedModel.complete = noted  # type: ignore[method-assign]


def warm_up(site: Site) -> float:
    """Imports what a run imports, and says how long a run takes then."""
    child = os.fork()
    if not child:
        _print_to(site.folder / "imports.log")
        with suppress(SystemExit):
            prefgen(site.arguments("imports"))
        (site.folder / "modules").write_text("\n".join(sys.modules))
        os._exit(0)
    os.waitpid(child, 0)
    for module in (site.folder / "modules").read_text().split("\n"):
        if module != "__main__":
            with suppress(ImportError):
                importlib.import_module(module)
    began = time.monotonic()
    _, status = os.waitpid(site.start("whole"), 0)
    if status:
        raise RuntimeError(site.log("whole"))
    return time.monotonic() - began


def kill_often(site: Site, kills: int, seed: int, length: float) -> Told:
    draw, told = random.Random(seed), Told()
    whole, files = site.tables("whole"), site.files("whole")
    while told.kills < kills:
        name = f"killed{told.finished}"
        in_flight: set[str] = set()
        done, resume = False, ()
        while not done:
            before = len(site.sent(name))
            child = site.start(name, *resume)
            if told.kills < kills:
                time.sleep(draw.uniform(0, length))
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            done, resume = os.WIFEXITED(status), ("--resume",)
            _see(site, name, before, in_flight, told)
            if not done:
                told.kills += 1
                told.without_manifest += not (site.folder / name / "manifest.json").exists()
            elif os.WEXITSTATUS(status):
                told.faults.append(f"{name} ended with {os.WEXITSTATUS(status)}: {site.log(name)}")
        told.finished += 1
        told.faults += [f"{name}: {table} differs" for table, rows in site.tables(name).items()
                        if rows != whole[table]]  # fmt: skip
        if site.files(name) != files:
            told.faults.append(f"{name}: its files differ: {site.files(name) ^ files}")
        if site.stored(name) != site.stored("whole"):
            told.faults.append(f"{name}: its ledger differs")
        if site.paid(name) != site.paid("whole"):
            told.faults.append(f"{name}: paid {site.paid(name)}, left alone {site.paid('whole')}")
    return told


def _see(site: Site, name: str, before: int, in_flight: set[str], told: Told) -> None:
    """What a process has sent; `in_flight`: what earlier ones had under way when they were killed."""
    sent, stored = site.sent(name), site.stored(name)
    now, earlier = sent[before:], set(sent[:before])
    again = [key for key in now if key in earlier]
    told.sent += len(now)
    told.sent_again += len(again)
    if len(set(now)) < len(now):
        told.faults.append(f"{name}: one process sent a call twice")
    if not set(again) <= in_flight:
        told.faults.append(f"{name}: {len(set(again) - in_flight)} calls sent again that were stored before")
    in_flight |= set(now)
    in_flight -= stored
    told.most_in_flight = max(told.most_in_flight, len(set(now) - stored))


def run(kills: int, prompts: int = 8, latency: float = 0.02, seed: int = 0) -> tuple[Told, float]:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), prompts, latency)
        length = warm_up(site)
        return kill_often(site, kills, seed, length), length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    told, length = run(options.kills, options.prompts, seed=options.seed)
    if options.json:
        print(json.dumps(asdict(told)))
        sys.exit(bool(told.faults))
    print(
        f"{told.kills} kills within {told.finished} runs of {length:.2f} s, {told.without_manifest} of them "
        f"before the manifest; {time.monotonic() - began:.0f} s in all"
    )
    print(
        f"samples sent: {told.sent}, sent again: {told.sent_again}, all of them in flight when their process "
        f"was killed; in flight at one kill at most: {told.most_in_flight}, at concurrency {CONCURRENCY} for "
        f"each of two models, {SAMPLES} samples a call of the policy"
    )
    print(
        "\n".join(told.faults)
        or "every run ended with the tables, files, ledger and spending of one left alone"
    )
    sys.exit(bool(told.faults))


if __name__ == "__main__":
    main()

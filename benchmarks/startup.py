"""Seconds from the command line to a first sign: `prefgen --help`, and the first call of `prefgen generate`.

    python benchmarks/startup.py [--runs 5]

Prints the median and the range. Between them an interpreter that only imports the OpenAI SDK: no client of it
can be faster.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import median

from stub_server import stub

PREFGEN = [sys.executable, "-c", "from pipelines.cli import main; main()"]


def ended(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def first_call() -> float:
    """Until the server has been asked something."""
    with tempfile.TemporaryDirectory() as folder, stub() as url:
        prompts = Path(folder) / "prompts.jsonl"
        prompts.write_text("".join(f'{{"prompt": "What is {number}?"}}\n' for number in range(20)))
        model = f"openai/stub@{url}"
        options = ["--policy", model, "--judge", model, "--n", "2", "--planted", "0", "--quiet"]
        places = ["--out", f"{folder}/run", "--ledger", f"{folder}/ledger.sqlite"]
        start = time.perf_counter()
        with subprocess.Popen(
            [*PREFGEN, "generate", str(prompts), *options, *places],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while not asked(url):
                assert process.poll() is None, "it ended without a call"
                time.sleep(0.01)
            return time.perf_counter() - start


def asked(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/stats") as answer:
        return "calls" in json.load(answer)


def show(what: str, run: Callable[[], float], runs: int) -> None:
    run()  # The first one reads files that are not in memory yet.
    seconds = [run() for _ in range(runs)]
    print(f"{what:28s} {median(seconds):5.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    show("prefgen --help", lambda: ended([*PREFGEN, "--help"]), runs)
    show("import openai", lambda: ended([sys.executable, "-c", "import openai"]), runs)
    show("generate: first call out", first_call, runs)


if __name__ == "__main__":
    main()

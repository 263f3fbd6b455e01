"""Peak memory of a whole `prefgen generate` against the number of prompts, with models that cost nothing.

    python benchmarks/memory.py [--prompts 4000 64000]

Prints the peak of the process (its resident set) for each size, and the last over the first.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MB = 1 << 10 if sys.platform != "darwin" else 1 << 20


def generate(prompts: int, folder: Path) -> None:
    """In a process of its own: the run, then its peak in MB and its seconds as JSON."""
    from pipelines.cli import main as prefgen

    file = folder / "prompts.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for number in range(prompts):
            prompt = f"Question {number}: how does one part of {number * 7919} differ from {number}?"
            out.write(json.dumps({"id": f"prompt-{number:07d}", "prompt": prompt}) + "\n")
    options = ["--policy", "scripted/writer", "--judge", "scripted/judge", "--n", "2", "--planted", "0"]
    places = ["--out", str(folder / "run"), "--ledger", str(folder / "ledger.sqlite")]
    start = time.perf_counter()
    try:
        prefgen(["generate", str(file), *options, *places, "--quiet", "--json"])
    except SystemExit as end:
        if end.code:
            raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB
    print(json.dumps([peak, time.perf_counter() - start]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", nargs="+", type=int, default=[4_000, 64_000])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        generate(int(options.measure[0]), Path(options.measure[1]))
        return
    peaks = []
    for prompts in options.prompts:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--measure", str(prompts), folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peak, seconds = json.loads(done.stdout.splitlines()[-1])
        peaks.append(peak)
        print(f"{prompts:7d} prompts: peak {peak:6.0f} MB, {prompts / seconds:6.0f} prompts/s", flush=True)
    print(f"last over first: {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()

"""Two nodes on loopback, real vLLM on their CPUs, one node killed in the middle: what is lost or repeated.

    python benchmarks/ray_two_nodes.py [--prompts 48] [--kill-after 3]

The same prompts are first run by the local engine, to compare with. The policy's draws are seeded, but vLLM's
arithmetic depends on which requests share a step, so a few texts may differ between any two runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent.parent
QUICKSTART = HERE / "data" / "quickstart"
MODELS = QUICKSTART / "models"
BIN = Path(sys.executable).parent
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
CPUS = 4
"""As Ray counts them; each node alone has room for all workers."""


def start_node(host: str, head: str, *options: str) -> psutil.Process:
    """A node of a cluster of our own, with all its processes as children."""
    command = [str(BIN / "ray"), "start", "--block", f"--node-ip-address={host}", f"--num-cpus={CPUS}"]
    command += ["--object-store-memory=200000000", "--disable-usage-stats", *options]
    env = {**os.environ, **QUIET, "PYTHONPATH": str(HERE)}
    started = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert started.stdout is not None
    assert any("Ray runtime started" in line for line in started.stdout), f"no Ray node on {host}"
    return psutil.Process(started.pid)


def kill(node: psutil.Process) -> None:
    for member in [*node.children(recursive=True), node]:
        member.kill()


def command(prompts: Path, out: Path, *more: object) -> list[str]:
    models = ["--policy", f"vllm/{MODELS / 'policy'}", "--judge", f"vllm/{MODELS / 'judge'}"]
    given = ["generate", prompts, *models, "--constitution", QUICKSTART / "constitution.yaml", "--planted", 0]
    given += ["--judging", "pointwise", "--judge-template", QUICKSTART / "judge.txt", "--n", 4]
    given += ["--max-tokens", 120, "--out", out, "--ledger", f"{out}.sqlite", *more]
    return [str(BIN / "prefgen"), *map(str, given)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--kill-after", type=int, default=3, help="shards that are back when the node dies")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rayb-", dir="/tmp"))
    nodes: list[psutil.Process] = []
    try:
        prompts = folder / "prompts.jsonl"
        lines = (QUICKSTART / "prompts.jsonl").read_text().splitlines()[: options.prompts]
        prompts.write_text("\n".join(lines) + "\n")
        run(command(prompts, folder / "local"))
        with socket.socket() as free:
            free.bind(("127.0.0.2", 0))
            head = f"127.0.0.2:{free.getsockname()[1]}"
        port = head.partition(":")[2]
        nodes.append(
            start_node(
                "127.0.0.2", head, "--head", f"--port={port}", "--include-dashboard=false",
                f"--temp-dir={folder / 't'}",
            )
        )  # fmt: skip
        nodes.append(start_node("127.0.0.3", head, f"--address={head}"))
        ray = ["--engine", "ray", "--ray-address", head, "--policy-workers", 2, "--judge-workers", 2]
        began = time.monotonic()
        running = subprocess.Popen(
            command(prompts, folder / "ray", *ray, "--shard-size", 4),
            env={**os.environ, **QUIET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        done = folder / "ray" / ".work" / "ray" / "done"
        while running.poll() is None and len([*done.glob("*.parquet")]) < options.kill_after:
            time.sleep(0.2)
        assert running.poll() is None, running.communicate()[1]
        held = [process.name() for process in nodes[1].children(recursive=True)]
        workers = sum("MapWorker" in name for name in held)
        at = time.monotonic() - began
        kill(nodes.pop())
        print(
            f"node 127.0.0.3 killed after {at:.0f} s, {len([*done.glob('*.parquet')])} shards back; "
            f"it held {workers} of 4 workers"
        )
        errors = running.communicate()[1]
        assert running.returncode == 0, errors
        print(f"the run went on and ended after {time.monotonic() - began:.0f} s, exit code 0")
        compare(folder / "local", folder / "ray", options.prompts)
    finally:
        for node in nodes:
            kill(node)
        shutil.rmtree(folder, ignore_errors=True)


def run(words: list[str]) -> None:
    ended = subprocess.run(words, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def compare(local: Path, ray: Path, prompts: int) -> None:
    rows = {path: pq.read_table(path / "candidates.parquet").to_pylist() for path in (local, ray)}
    asked = list(dict.fromkeys(row["prompt_id"] for row in rows[local]))
    drawn = Counter((row["prompt_id"], row["sample"]) for row in rows[ray])
    lost = prompts * 4 - len(drawn)
    repeated = sum(count - 1 for count in drawn.values())
    print(f"{prompts} prompts, {len(rows[ray])} candidates: {lost} lost, {repeated} repeated")
    assert list(dict.fromkeys(row["prompt_id"] for row in rows[ray])) == asked
    texts = {
        path: {(row["prompt_id"], row["sample"]): row["response"] for row in rows[path]} for path in rows
    }
    same = sum(texts[local][key] == texts[ray].get(key) for key in texts[local])
    print(f"in the order of the file; {same} of {len(texts[local])} texts are those of the local run")
    counts = {path: json.loads((path / "manifest.json").read_text())["counts"] for path in rows}
    for name in ("judgments", "pairs", "failures"):
        print(f"{name}: {counts[ray][name]} (local run: {counts[local][name]})")
    judged = Counter(
        (row["a_id"], row["b_id"], row["order"], row["principle"])
        for row in pq.read_table(ray / "judgments.parquet").to_pylist()
    )
    print(f"judgments that are there twice: {sum(count - 1 for count in judged.values())}")


if __name__ == "__main__":
    main()

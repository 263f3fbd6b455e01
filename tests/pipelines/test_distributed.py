"""`--engine ray`: the tables of the local engine, whoever is killed, and one budget for all workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from running import FAKES, Ran, Runner, files, process, rows, some_prompts
from stub import stats, stub

from pipelines.distributed import cluster
from pipelines.distributed.cluster import Pool
from pipelines.distributed.ledger import NotingLedger, noted, put_all
from pipelines.distributed.rows import pack, unpack
from pipelines.distributed.shards import Shards, shard_size
from pipelines.distributed.workers import with_files
from pipelines.generate_config import GenerateConfig
from prefgen.ledger import Ledger, Paid
from prefgen.messages import user
from prefgen.prompt import Prompt

TABLES = (
    "candidates", "judgments", "scores", "planted", "undecided",
    "dpo/train", "dpo/test", "kto/train", "kto/test",
)  # fmt: skip
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OPENAI_API_KEY": "none"}
RAY = Path(sys.executable).with_name("ray")
needs_ray = pytest.mark.skipif(not RAY.exists(), reason='needs Ray: pip install "prefgen[ray]"')
ANSWERS = {b"1" * 32: {"text": "old"}, b"2" * 32: {"text": "new"}}
FAILED = '{"candidates":[],"duplicate_of":{},"failures":["timeout"]}'


def prompts(count: int) -> list[tuple[Prompt, bool]]:
    """The first carries planted pairs."""
    asked = (Prompt(f"p{number}", user(f"What now, customer {number}?")) for number in range(count))
    return [(prompt, not number) for number, prompt in enumerate(asked)]


def done(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A row as a worker sends it back."""
    sampled = '{"candidates":[],"duplicate_of":{},"failures":[]}'
    return row | {"sampled": sampled, "told": '{"results":[],"planted":[]}'} | more


def test_shards_are_kept_whole_and_what_failed_is_owed(tmp_path: Path) -> None:
    shards = Shards.plan(tmp_path, prompts(10), 10, 4)
    assert shards.count == 3
    assert [shards.length(shard) for shard in range(3)] == [4, 4, 2]
    assert shards.owed() == [0, 1, 2]
    first, second = shards.todo(0).to_pylist(), shards.todo(1).to_pylist()
    shards.save(0, map(done, first))
    answers = pack({b"k" * 32: ("m", {"text": "paid for"})})
    came = [done(row) for row in second]
    came[2] |= {"sampled": FAILED, "answers": answers}
    shards.save(1, came)
    again = Shards.plan(tmp_path, iter(()), 99, 99)
    assert again.owed() == [1, 2]
    (owed,) = again.todo(1).to_pylist()
    assert (owed["place"], owed["siblings"], owed["sampled"], owed["told"]) == (2, 1, None, None)
    assert unpack(owed["known"]) == {b"k" * 32: ("m", {"text": "paid for"})}
    again.save(1, [done(owed)])
    assert again.owed() == [2]
    assert [row["place"] for row in again.rows(1)] == [0, 1, 2, 3]
    assert [row["planted"] for row in again.rows(0)] == [True, False, False, False]


def test_few_prompts_are_shared_by_all_workers() -> None:
    assert shard_size(100_000, 8) == 128
    assert shard_size(64, 4) == 4
    assert shard_size(3, 8) == 1


async def test_a_worker_notes_what_it_used_and_the_driver_books_it(tmp_path: Path) -> None:
    paid: list[Paid] = []
    cost = Paid("run/judge", "m", 1, 10, 0, 5, 0.25)
    (old, first), (new, second) = ANSWERS.items()
    with NotingLedger(tmp_path / "worker", paid.append) as worker, Ledger(tmp_path / "driver") as driver:
        await worker.put("m", {old: first})
        notes: dict[bytes, Any] = {}
        noted.set(notes)
        worker.get([old, b"0" * 32])
        await worker.put("m", {new: second}, cost)
        assert paid == [cost]
        assert worker.spent("run/judge") == {}
        await put_all(driver, unpack(pack(notes)))
        assert driver.get([*ANSWERS]) == ANSWERS


def test_pools_fit_where_each_worker_finds_its_gpus_on_one_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 3.0}]
    monkeypatch.setattr(cluster, "_nodes", lambda free: nodes)
    assert cluster.fits(Pool(2, 1.0), Pool(2), free=False)
    assert cluster.fits(Pool(1, 3.0), Pool(3), free=False)
    assert not cluster.fits(Pool(1, 4.0), Pool(1), free=False)
    assert not cluster.fits(Pool(2, 2.0), Pool(1), free=False)
    assert not cluster.fits(Pool(3), Pool(2), free=False)


def test_options_of_ray_without_ray_are_refused(prefgen: Runner, tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 2)
    given = [tmp_path / "p.jsonl", *FAKES, "--out", tmp_path / "run"]
    for options, words in (
        (["--judge-workers", 2], "--judge-workers goes with --engine ray"),
        (["--engine", "ray", "--n-first", 2], "--n-first goes with --engine local"),
        (["--engine", "ray", "--batch"], "--batch goes with --engine local"),
        (["--engine", "ray", "--quote"], "leave --engine ray out"),
    ):
        ran = prefgen("generate", *given, *options)
        assert ran.code == 2
        assert words in ran.err
    assert not (tmp_path / "run").exists()


def test_without_ray_the_command_to_type_is_told(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_prompts(tmp_path / "p.jsonl", 2)
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    ran = prefgen("generate", tmp_path / "p.jsonl", *FAKES, "--out", tmp_path / "run", "--engine", "ray")
    assert ran.code == 2
    assert 'pip install "prefgen[ray]"' in ran.err


def test_the_judges_files_are_where_the_worker_is(tmp_path: Path) -> None:
    config = GenerateConfig(
        prompts=Path("p"), out=Path("o"), policy=("scripted/writer",), judge=("scripted/judge",),
        constitution="mine.yaml", judging="score", scale=Path("deep/mine.yaml"),
    )  # fmt: skip
    there = with_files(config, {"mine.yaml": b"id: one", "deep/mine.yaml": b"id: two"}, tmp_path)
    assert Path(there.constitution).read_text() == "id: one"
    assert there.scale is not None
    assert there.scale.read_text() == "id: two"
    assert there.model_copy(update={"constitution": "mine.yaml", "scale": config.scale}) == config


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_an_address_without_a_cluster_is_told_at_once(prefgen: Runner, tmp_path: Path, address: str) -> None:
    some_prompts(tmp_path / "p.jsonl", 2)
    began = time.monotonic()
    given = [tmp_path / "p.jsonl", *FAKES, "--out", tmp_path / "run", "--engine", "ray"]
    ran = prefgen("generate", *given, "--ray-address", address)
    assert ran.code == 2
    assert f"--ray-address {address}" in ran.err.replace("'", "")
    assert time.monotonic() - began < 30
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one node with six CPUs, of the tests' own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets stand no long paths.
    command = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1",
        f"--port={port}", "--num-cpus=6", "--include-dashboard=false", "--object-store-memory=100000000",
        f"--temp-dir={folder}", "--disable-usage-stats",
    ]  # fmt: skip
    started = subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **QUIET},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert any("Ray runtime started" in line for line in started.stdout)
        yield f"127.0.0.1:{port}"
    finally:
        for member in [*psutil.Process(started.pid).children(recursive=True), started]:
            member.kill()
        started.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def arguments(folder: Path, out: str, *more: object) -> list[str]:
    given = [
        "generate", folder / "p.jsonl", "--out", folder / out, "--ledger", folder / f"{out}.sqlite", "--n", 4,
        "--strategy", "all", "--max-pairs", 3, "--test-share", 0.3, *more,
    ]  # fmt: skip
    return [str(item) for item in given]


def on_ray(address: str, *more: object) -> list[object]:
    return ["--engine", "ray", "--ray-address", address, "--policy-workers", 2, "--judge-workers", 2, *more]


def workers() -> Iterator[psutil.Process]:
    return (process for process in psutil.process_iter() if process.name().startswith("ray::MapWorker"))


def assert_same(one: Path, other: Path) -> None:
    for name in TABLES:
        assert pq.read_table(one / f"{name}.parquet").equals(pq.read_table(other / f"{name}.parquet")), name
    assert files(one) == files(other)


@needs_ray
@pytest.mark.timeout(300)
def test_killed_driver_and_worker_and_the_tables_are_those_of_the_local_engine(
    address: str, tmp_path: Path
) -> None:
    some_prompts(tmp_path / "p.jsonl", 40)
    assert process(*arguments(tmp_path, "local", *FAKES)).code == 0
    command = arguments(tmp_path, "ray", *FAKES, "--engine-arg", "latency=0.1", "--concurrency", 4)
    command += [str(word) for word in on_ray(address, "--shard-size", 3)]
    shards = tmp_path / "ray" / ".work" / "ray" / "done"

    def run(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("prefgen")), *command, *more],
            env={**os.environ, **QUIET},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(running: subprocess.Popen[str], count: int) -> None:
        while running.poll() is None and len([*shards.glob("*.parquet")]) < count:
            time.sleep(0.05)
        assert running.poll() is None, running.communicate()[1]

    killed = run()
    wait_for(killed, 2)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in shards.glob("*.parquet")}
    refused = process(*command, "--resume", "--temperature", 0.5, env=QUIET)
    assert refused.code == 2
    assert "temperature: was 1.0, now 0.5" in refused.err

    resumed = run("--resume", "--shard-size", "7")
    wait_for(resumed, len(before) + 1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    next(worker for worker in workers() if "Assessor" in worker.name()).kill()
    _, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, err
    assert "Traceback" not in err
    assert_same(tmp_path / "local", tmp_path / "ray")
    names = Counter(row["candidate_id"] for row in rows(tmp_path / "ray" / "candidates.parquet"))
    assert len(names) == 160
    assert max(names.values()) == 1


@needs_ray
@pytest.mark.timeout(300)
def test_all_workers_share_one_limit_and_one_budget(address: str, tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 12)
    with stub(0.05, _429=0.05, _500=0.03) as url:
        judge = [
            "--policy",
            "scripted/writer",
            "--judge",
            f"openai/stub@{url}",
            "--concurrency",
            6,
            "--planted",
            0,
        ]

        def run(*more: object) -> Ran:
            return process(
                *arguments(tmp_path, "ray", *judge, *on_ray(address, "--shard-size", 2), *more), env=QUIET
            )

        stopped = run("--max-requests", 60)
        assert stopped.code == 4, stopped.err
        assert "the budget of 60 requests is used up" in stopped.err
        # Twelve of them were the policy's.
        assert stats(url)["calls"] <= 48
        assert stats(url)["calls"] >= 44
        resumed = run("--resume", "--json")
        assert resumed.code == 0, resumed.err
        told, counts = resumed.result, stats(url)
        assert counts["most at once"] <= 6
        assert counts["answered"] == told["counts"]["judgments"]
        assert told["usage"]["requests"] == 12 + told["counts"]["judgments"]
        with Ledger(tmp_path / "ray.sqlite") as ledger:
            (asked,) = ledger.read("SELECT count(*) FROM answers WHERE model LIKE 'openai%'")[0]
        assert asked == counts["answered"]


@needs_ray
def test_workers_that_do_not_fit_are_refused(address: str, tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 4)
    ran = process(*arguments(tmp_path, "ray", *FAKES, *on_ray(address, "--judge-workers", 9)), env=QUIET)
    assert ran.code == 2
    assert "the workers need 11 CPUs and 0 GPUs" in ran.err
    assert "the cluster has 6 CPUs" in ran.err
    assert not (tmp_path / "ray").exists()

"""Servers that fail, go, come back and change; a clock that jumps; two runs at once: nothing is lost."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from running import FAKES, Runner, rows, some_prompts
from stub import stats, stub

from prefgen.budget import Account
from prefgen.completion import CompletionRequest, Reply, Sampling
from prefgen.engine import EngineModel, Limits
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models import open_model
from prefgen.models.scripted import ScriptedModel, open_scripted
from prefgen.recorded import RecordedModel

FAULTS = {"_429": 0.05, "_500": 0.02, "hang": 0.01, "malformed": 0.01}
TABLES = ("candidates", "judgments", "scores", "dpo/train", "dpo/test", "kto/train", "kto/test")


def tables(run: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: rows(run / f"{name}.parquet") for name in TABLES}


def arguments(folder: Path, url: str, out: str, *more: object) -> tuple[object, ...]:
    return (
        "generate", folder / "p.jsonl", "--policy", f"openai/w@{url}", "--judge", f"openai/j@{url}",
        "--out", folder / out, "--ledger", folder / f"{out}.sqlite", "--n", 3, "--planted", 0,
        "--test-share", 0.3, "--json", *more,
    )  # fmt: skip


async def test_of_4000_calls_to_a_server_that_fails_often_none_is_lost(tmp_path: Path) -> None:
    asks = [CompletionRequest(user(f"question {n}"), Sampling(max_tokens=50)) for n in range(4000)]
    with stub(latency=0.02, **FAULTS) as url, Ledger(tmp_path / "l") as ledger:
        model = EngineModel(
            await open_model(f"openai/w@{url}"), Limits(256, deadline=1.0, first_wait=0.05), Account()
        )
        behind = RecordedModel(model, ledger)
        replies = await asyncio.gather(*map(behind.complete, asks))
        again = await asyncio.gather(*map(behind.complete, asks))
        await behind.aclose()
        told = stats(url)
        (count,) = ledger.read("SELECT count(*) FROM answers")[0]
    assert all(told[fault.strip("_")] > 10 for fault in FAULTS)
    assert count == len({reply.completions[0].text for reply in replies}) == 4000
    assert [reply.completions[0].text for reply in again] == [reply.completions[0].text for reply in replies]
    # What was sent again had failed before. On a loaded machine a deadline may end before a call is sent.
    assert told["seen twice"] <= model.engine.retries + model.engine.rate_limited


def test_a_run_on_a_server_that_fails_often_ends_like_one_on_a_server_that_does_not(
    prefgen: Runner, tmp_path: Path
) -> None:
    some_prompts(tmp_path / "p.jsonl", 30)
    with stub() as url:
        whole = prefgen(*arguments(tmp_path, url, "whole"))
    assert whole.code == 0, whole.err
    faults = FAULTS | {"cut": 0.02, "error_200": 0.02}
    with stub(port=urlsplit(url).port or 0, **faults) as url:
        failing = prefgen(*arguments(tmp_path, url, "failing", "--deadline", 1))
    assert failing.code == 0, failing.err
    assert tables(tmp_path / "failing") == tables(tmp_path / "whole")
    assert failing.result["counts"] == whole.result["counts"]
    assert failing.result["usage"]["retries"] > 0
    assert failing.result["usage"]["rate_limited"] > 0


def test_a_server_that_restarts_in_the_middle_of_a_run_is_waited_for(prefgen: Runner, tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 12)
    restarts = []

    def restarting(port: int, stop: threading.Event) -> None:
        while not stop.is_set():
            with stub(latency=0.05, port=port):
                restarts.append(time.monotonic())
                stop.wait(0.7)
            stop.wait(0.2)

    with stub(latency=0.05) as url:
        port = urlsplit(url).port or 0
        whole = prefgen(*arguments(tmp_path, url, "whole"))
    stop = threading.Event()
    thread = threading.Thread(target=restarting, args=(port, stop))
    thread.start()
    while not restarts:
        time.sleep(0.01)
    try:
        done = prefgen(*arguments(tmp_path, url, "run", "--concurrency", 2))
    finally:
        stop.set()
        thread.join()
    assert (whole.code, done.code) == (0, 0), done.err
    assert len(restarts) > 2
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")


def test_two_runs_at_once_pay_for_nothing_twice(tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 12)
    script = str(Path(sys.executable).with_name("prefgen"))
    with stub(latency=0.1) as url:
        commands = [
            [
                script,
                *map(str, arguments(tmp_path, url, out, "--ledger", tmp_path / "shared", "--concurrency", 4)),
            ]
            for out in ("one", "two")
        ]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for command in commands]  # fmt: skip
        told = [run.communicate(timeout=120) for run in runs]
        sent = stats(url)
    assert [run.returncode for run in runs] == [0, 0], told
    usage = [json.loads(out)["usage"] for out, _ in told]
    paid = sum(item["requests"] for item in usage)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    assert paid == sent["calls"]
    assert sum(item["cached_requests"] for item in usage) > 0
    connection = sqlite3.connect(tmp_path / "shared")
    (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    connection.close()
    judgments = len(rows(tmp_path / "one" / "judgments.parquet"))
    assert count == 12 * 3 + judgments
    # One call a prompt, one a judgment: what one run was asking, the other waited for.
    assert (paid, sent["seen twice"]) == (12 + judgments, 0)


class Renamed(ScriptedModel):
    """A policy that is served by another name from some call on."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(open_scripted("writer")._answer, "scripted/writer")
        self._names = names

    async def complete(self, request: CompletionRequest) -> Reply:
        reply = await super().complete(request)
        return replace(reply, served=self._names.pop(0) if len(self._names) > 1 else self._names[0])


def test_a_policy_whose_model_changes_in_mid_run_is_told(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Renamed(["w-2026-01-01"] * 5 + ["w-2026-09-09"])

    async def opened(text: str, options: Mapping[str, Any] | None = None, share: int = 1) -> Any:
        return policy if text == "scripted/writer" else open_scripted("judge")

    monkeypatch.setattr("pipelines.roles.open_model", opened)
    some_prompts(tmp_path / "p.jsonl", 8)
    done = prefgen("generate", tmp_path / "p.jsonl", *FAKES, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert "answered as w-2026-01-01 and as w-2026-09-09" in done.err
    assert done.result["models"]["policy"]["served"] == "w-2026-01-01, w-2026-09-09"


def test_a_clock_that_jumps_changes_nothing(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 8)
    command = ("generate", prompts, *FAKES, "--n", 3, "--engine-arg", "latency=0.001", "--json")
    steady = prefgen(*command, "--out", tmp_path / "steady", "--ledger", tmp_path / "steady.sqlite")
    draw, real = random.Random(5), time.time
    monkeypatch.setattr(time, "time", lambda: real() + draw.uniform(-1e8, 1e8))
    jumping = prefgen(*command, "--out", tmp_path / "jumping", "--ledger", tmp_path / "jumping.sqlite")
    assert (steady.code, jumping.code) == (0, 0), jumping.err
    assert tables(tmp_path / "jumping") == tables(tmp_path / "steady")
    assert jumping.result["counts"] == steady.result["counts"]
    assert Counter(jumping.result["usage"]) == Counter(steady.result["usage"])
    assert all(0 <= seconds < 60 for seconds in jumping.result["timings"].values())

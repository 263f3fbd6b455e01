"""SIGTERM and Ctrl-C while calls to a server are under way: they are waited for, or given up at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running import some_prompts
from stub import stats, stub


def command(folder: Path, url: str, *more: str) -> list[str]:
    given = [
        Path(sys.executable).with_name("prefgen"), "generate", folder / "p.jsonl",
        "--policy", f"openai/w@{url}", "--judge", "scripted/judge", "--out", folder / "run",
        "--ledger", folder / "l", "--n", 2, "--concurrency", 8, "--planted", 0, "--quiet", *more,
    ]  # fmt: skip
    return [str(item) for item in given]


def start(folder: Path, url: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, url, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def wait_until(true: Callable[[], bool], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def answers(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM answers WHERE model LIKE 'openai/%'").fetchone()
    connection.close()
    return int(count)


def test_a_run_that_is_terminated_keeps_the_calls_in_flight(tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 40)
    with stub(latency=1.0) as url:
        run = start(tmp_path, url)
        wait_until(lambda: stats(url).get("inside") == 8)
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=60)
        told = stats(url)
    assert run.returncode == 130, err
    assert out == ""
    assert "every answer that came in is kept" in err
    assert f"go on with:\n  prefgen generate {tmp_path}/p.jsonl --policy openai/w@" in err
    assert err.endswith(" --quiet --resume\n")
    assert "Traceback" not in err
    assert told["answered"] == told["calls"] < 40
    assert answers(tmp_path / "l") == 2 * told["answered"]
    with stub(port=urlsplit(url).port or 0) as url:
        again = start(tmp_path, url, "--resume")
        assert again.wait(60) == 0
        again.communicate()
        assert stats(url)["answered"] == 40 - told["answered"]


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 10)
    with stub(hang=1.0) as url:
        run = start(tmp_path, url)
        wait_until(lambda: stats(url).get("calls") == 8)
        run.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(1.5)  # It waits for the calls in flight.
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = run.communicate(timeout=60)
    assert time.monotonic() - began < 10  # The calls would be waited for 30 s.
    assert run.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err

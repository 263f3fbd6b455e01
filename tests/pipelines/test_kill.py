"""kill -9 and Ctrl-C at any moment: nothing is lost, nothing is there twice, nothing is paid twice."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

from running import FAKES, files, process, rows, some_prompts

from prefgen.run import RunDirectory

CONCURRENCY = 4
# The command line, with a note on disk of every call that is sent.
DRIVER = textwrap.dedent(
    """
    import os, sys
    from prefgen.models import scripted

    complete = scripted.ScriptedModel.complete

    async def noted(self, request):
        for sample in request.samples:
            question = repr((self.identity, request.identity(), sample)).encode().hex()
            os.write(log, f"{question}\\n".encode())
        return await complete(self, request)

    log = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    scripted.ScriptedModel.complete = noted
    from pipelines.cli import main
    main(sys.argv[1:])
    """
)


def arguments(folder: Path, out: str, ledger: str, latency: float = 0.01) -> list[str]:
    given = [
        "generate", folder / "p.jsonl", *FAKES, "--out", folder / out, "--ledger", folder / ledger, "--n", 4,
        "--concurrency", CONCURRENCY, "--engine-arg", f"latency={latency}", "--quiet", "--strategy", "all",
        "--max-pairs", 3, "--test-share", 0.3,
    ]  # fmt: skip
    return [str(item) for item in given]


def start(folder: Path, *extra: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, *arguments(folder, "killed", "killed.sqlite"), *extra]
    return subprocess.Popen(
        command,
        env={**os.environ, "CALLS": str(folder / "calls")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(path: Path) -> int:
    """Rows of a ledger that may not exist yet."""
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        count: int = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()
    return count


def wait_for(process: subprocess.Popen[str], folder: Path, more: int) -> None:
    """Until this many answers have been added, or the process has ended."""
    before = stored(folder / "killed.sqlite")
    while process.poll() is None and stored(folder / "killed.sqlite") < before + more:
        time.sleep(0.003)


def tables(run: Path) -> dict[str, list[dict[str, Any]]]:
    names = ("candidates", "judgments", "scores", "planted", "dpo/train", "dpo/test", "kto/train", "kto/test")
    return {name: rows(run / f"{name}.parquet") for name in names}


def test_a_run_killed_again_and_again_ends_like_one_that_was_not(tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 8)
    assert process(*arguments(tmp_path, "whole", "whole.sqlite", latency=0.0)).code == 0
    draw = random.Random(11)
    kills, moments = 0, [draw.uniform(0.05, 0.5) for _ in range(5)]
    for moment in moments:  # While it starts: imports, directory, ledger, first calls.
        run = start(tmp_path, *(["--resume"] if kills else []))
        time.sleep(moment)
        run.kill()
        run.communicate()
        assert run.returncode == -signal.SIGKILL
        kills += 1
    done = None
    for _ in range(60):
        run = start(tmp_path, "--resume")
        if kills < 15:
            wait_for(run, tmp_path, draw.randint(1, 12))
            time.sleep(draw.uniform(0, 0.01))
            run.kill()
        out, err = run.communicate(timeout=60)
        if run.returncode != -signal.SIGKILL:
            done = (run.returncode, out, err)
            break
        kills += 1
        assert not (tmp_path / "killed" / "manifest.json").exists()
    assert done is not None
    assert done[0] == 0, done[2]
    assert kills >= 10
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert stored(tmp_path / "killed.sqlite") == stored(tmp_path / "whole.sqlite")
    asked = Counter((tmp_path / "calls").read_text().split())
    assert len(asked) == stored(tmp_path / "killed.sqlite")
    # Two models of CONCURRENCY calls each can be in flight; a policy's call holds four samples.
    assert sum(asked.values()) - len(asked) <= kills * CONCURRENCY * (1 + 4)


def test_ctrl_c_can_be_resumed_and_says_so(tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 6)
    run = start(tmp_path)
    wait_for(run, tmp_path, 10)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert out == ""
    assert "interrupted" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert not (tmp_path / "killed" / "manifest.json").exists()
    # What was in flight was let finish and is kept: every call that was sent has its row.
    asked = Counter((tmp_path / "calls").read_text().split())
    assert len(asked) == stored(tmp_path / "killed.sqlite")
    again = start(tmp_path, "--resume")
    assert again.wait(60) == 0
    again.communicate()
    assert max(Counter((tmp_path / "calls").read_text().split()).values()) == 1


def test_two_runs_cannot_write_one_directory(tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 6)
    with RunDirectory.start(tmp_path / "killed", {"held": "by this test"}):
        second = start(tmp_path, "--resume")
        _, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "being written by another process" in err


def test_a_full_disk_ends_with_a_message_and_can_be_resumed(tmp_path: Path) -> None:
    import pytest

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    some_prompts(tmp_path / "p.jsonl", 40)
    command = arguments(tmp_path, "disk/run", "l.sqlite", latency=0.0)
    try:
        full = process(*command)
        assert full.code == 2, full.err
        assert "free disk space" in full.err
        assert "Traceback" not in full.err
        assert "manifest.json" not in files(disk / "run")
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        resumed = process(*command, "--resume")
        assert resumed.code == 0, resumed.err
        assert "0 paid" in resumed.out or "from the ledger" in resumed.out
    finally:
        subprocess.run(["umount", str(disk)], check=True)

"""kill -9 and Ctrl-C at any moment of a loop: it goes on, and ends as one that was not touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from looping import write_config
from running import files, rows

ROOT = Path(__file__).parents[2]
# Each file tells of a moment: kill as soon as it is there.
MOMENTS = (
    "config.yaml",
    "rounds/1/run/.work/dpo.parquet.part",
    "rounds/1/model/step-1",
    "rounds/1/evaluation.json",
    "rounds.json",
    "rounds/2/model/training.json",
)
# What says how it went, not what came out.
_PASSING = {"created", "usage", "seconds", "loaded", "environment"}


def start(folder: Path, *extra: str, latency: float = 0.01) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "looping", "rlaif", "rlaif.yaml", "--out", "loop", "--quiet", *extra]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "LATENCY": str(latency)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_at(folder: Path, moment: str, *extra: str, kind: int = signal.SIGKILL) -> tuple[int, str]:
    """The exit code, and what was printed to standard error, of a loop that is hit once `moment` is there."""
    process = start(folder, *extra)
    while process.poll() is None and not (folder / "loop" / moment).exists():
        time.sleep(0.002)
    process.send_signal(kind)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: lasting(item) for name, item in value.items() if name not in _PASSING}
    return [lasting(item) for item in value] if isinstance(value, list) else value


def test_a_loop_killed_at_every_step_ends_like_one_that_was_not(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        write_config(tmp_path / name, prompts=6)
    whole = start(tmp_path / "whole", latency=0)
    _, err = whole.communicate(timeout=120)
    assert whole.returncode == 0, err
    folder = tmp_path / "killed"
    for number, moment in enumerate(MOMENTS):
        code, err = kill_at(folder, moment, *(["--resume"] if number else []))
        assert code == -signal.SIGKILL, err
        assert not (folder / "loop" / "manifest.json").exists()
    done = start(folder, "--resume")
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    same(tmp_path / "whole" / "loop", folder / "loop")


def noted(uses: Path) -> list[dict[str, Any]]:
    """Without where and when."""
    lines = [json.loads(line) for line in uses.read_text().splitlines()]
    return [{name: line[name] for name in line if name not in ("path", "time")} for line in lines]


def same(whole: Path, killed: Path) -> None:
    """The same files; the same numbers in them; the same tables."""
    assert files(killed) == files(whole)
    for name in sorted(files(whole)):
        one, other = whole / name, killed / name
        if name.endswith(("usage.json", "run.json", ".html", ".lock", ".md")):
            continue
        if name.endswith("run/manifest.json"):
            one_counts, other_counts = (json.loads(path.read_text())["counts"] for path in (one, other))
            assert one_counts == other_counts, name
        elif name.endswith("uses.jsonl"):
            assert noted(one) == noted(other), name
        elif name.endswith(".json"):
            assert lasting(json.loads(one.read_text())) == lasting(json.loads(other.read_text())), name
        elif name.endswith(".parquet"):
            assert rows(one) == rows(other), name
        else:
            assert one.read_bytes() == other.read_bytes(), name


def test_ctrl_c_can_be_resumed_and_says_so(tmp_path: Path) -> None:
    write_config(tmp_path, prompts=6, rounds=1)
    code, err = kill_at(tmp_path, "rounds/1/run/.work/dpo.parquet.part", kind=signal.SIGINT)
    assert code == 130, err
    assert "--resume" in err
    assert "Traceback" not in err
    done = start(tmp_path, "--resume")
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err

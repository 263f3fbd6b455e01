"""The benchmark of kills, in small: `python benchmarks/kills.py --kills 200` for the large."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from stub import BENCHMARKS


def test_runs_killed_at_any_moment_end_like_one_left_alone() -> None:
    # A process of its own: it forks, which this one with its threads must not.
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "kills.py", "--kills", "15", "--json"],
        capture_output=True, text=True, timeout=200, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] == 15
    assert told["faults"] == []
    assert told["without_manifest"] >= 8
    assert told["sent_again"] <= told["kills"] * told["most_in_flight"]
    assert told["sent"] > told["finished"]

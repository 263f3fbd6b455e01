"""Exports opened by the trainers' own loaders, where they are installed: `benchmarks/trainer_loaders.py`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from exporting import TALK, Made, plain, write_run

from prefgen.messages import Message, user

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trainer_loaders.py"
PACKAGES = {
    "llamafactory": "llamafactory",
    "axolotl": "axolotl",
    "openrlhf": "openrlhf",
    "nemo-rl": "nemo_rl.data",
    "verl": "verl",
}


def installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def odd_run(tmp_path: Path) -> Path:
    odd = 'line\u2028break, "quote", 漢字 👍🏽, <|im_end|> and C:\\new\nline'
    made = [
        Made(TALK),
        Made((Message("system", "S"), Message("user", odd)), odd + " yes", odd + " no"),
        Made(user("empty?"), rejected=""),
        Made((Message("user", "One."), Message("user", "<image>?"))),
        *(plain(number) for number in range(8)),
    ]
    return write_run(tmp_path / "run", made, [plain(100)])


@pytest.mark.train
@pytest.mark.filterwarnings("ignore")
def test_trl_prepares_the_rows_of_the_run(odd_run: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("trainer_loaders", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loaders = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaders)
    run = loaders.seen(odd_run, tmp_path / "seen")
    assert loaders.compare(run, "trl", "dpo", loaders.trl, tmp_path) == (12, 0)
    assert not (odd_run / "uses.jsonl").exists()


@pytest.mark.parametrize(
    "trainer",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(not installed(package), reason=f"{name} is not installed")
        )
        for name, package in PACKAGES.items()
    ],
)
def test_the_loader_gives_back_the_rows_of_the_run(trainer: str, odd_run: Path, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path / "hf"), "AXOLOTL_DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(odd_run), trainer],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, **home},
        cwd=SCRIPT.parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if "given back by its loader" in line]
    assert told
    assert all(line.startswith(f"{trainer} ") for line in told)

"""What is shipped: the four packages with their text files and the embedded data, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_only_the_four_packages_are_importable(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "prefgen",
        "judges",
        "trainers",
        "pipelines",
    }


def test_text_files_and_data_ship(names: set[str]) -> None:
    wanted = {
        "prefgen/py.typed",
        "judges/templates/pairwise.txt",
        "judges/constitutions/support-tone.yaml",
        "judges/scales/five-levels.yaml",
        "pipelines/templates/card.md",
        "prefgen/data/quickstart/config.yaml",
        "prefgen/data/quickstart/prompts.jsonl",
        "prefgen/data/quickstart/models/policy/model.safetensors",
        "prefgen/data/quickstart/models/judge/model.safetensors",
        "prefgen/data/quickstart/models/reward/model.safetensors",
    }
    assert wanted <= names


def test_shipped_files_are_the_tracked_ones(names: set[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "prefgen", "judges", "trainers", "pipelines", "data"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    expected = {f"prefgen/{name}" if name.startswith("data/") else name for name in tracked}
    shipped = {name for name in names if ".dist-info/" not in name}
    assert shipped - expected == set()


def test_embedded_weights_are_small() -> None:
    weights = (ROOT / "data" / "quickstart" / "models").rglob("*")
    assert sum(path.stat().st_size for path in weights if path.is_file()) <= 10_000_000

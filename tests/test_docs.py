"""Every config in the tree parses, and every block of the documentation runs or at least parses."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml

from judges.constitution import SHIPPED, load_constitution
from pipelines.cli import cli
from pipelines.generate_config import GenerateConfig
from pipelines.quickstart import QuickstartFile, generate_config
from prefgen.assets import asset
from prefgen.models import ModelSpec
from prefgen.yamlfile import read_yaml
from trainers.dpo import DPOConfig
from trainers.kto import KTOConfig

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def commands() -> list[list[str]]:
    """The `prefgen` command lines of all pages, continuation lines joined, comments cut."""
    joined = "\n".join(blocks("bash")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [line for line in lines if line[:1] == ["prefgen"]]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_constitutions_parse(name: str) -> None:
    constitution = load_constitution(name)
    assert constitution.id == name
    assert sum(constitution.weights.values()) == pytest.approx(1)


def test_quickstart_config_parses(tmp_path: Path) -> None:
    home = asset("quickstart")
    settings = QuickstartFile.model_validate(read_yaml(home / "config.yaml"))
    config = generate_config(settings, home, tmp_path, seed=0)
    assert isinstance(config, GenerateConfig)
    assert load_constitution(config.constitution).principles
    for spec in (*config.policy, *config.judge):
        assert Path(ModelSpec.parse(spec).name).is_dir()
    paths = {"model": "m", "data": tmp_path, "out": tmp_path}
    DPOConfig.model_validate(settings.dpo | paths)
    KTOConfig.model_validate(settings.kto | paths)


def test_every_yaml_in_the_tree_is_yaml() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*.yaml", "*.yml"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert tracked
    for name in tracked:
        assert yaml.safe_load((ROOT / name).read_text()), name


def test_the_pages_show_commands() -> None:
    shown = {line[1] for line in commands()}
    assert shown >= {"generate", "pair", "judge", "train"} or shown >= {"generate", "judge", "train"}


@pytest.mark.parametrize("line", commands(), ids=lambda line: " ".join(line[1:4]))
def test_commands_of_the_pages_parse(line: list[str]) -> None:
    """Each is a command with options that exist; nothing is run."""
    command: click.Command = cli
    arguments, name = line[1:], "prefgen"
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(click.Context(command), arguments)  # type: ignore[assignment]
        assert found is not None
        command = found
    command.make_context(name, arguments)


def test_make_targets_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        line.split()[1] for text in blocks("bash") for line in text.splitlines() if line.startswith("make ")
    }
    assert shown <= targets


def test_the_first_job_of_the_readme_runs(tmp_path: Path) -> None:
    """The generate command as printed, with scripted models, and the Python block after it."""
    (tmp_path / "prompts.jsonl").write_text(
        "".join(f'{{"prompt": "What should I know about topic {i} of {7 * i}?"}}\n' for i in range(40))
    )
    generate = next(line for line in commands() if line[1] == "generate")
    models = {"--policy": "scripted/writer", "--judge": "scripted/judge"}
    arguments = [models.get(before, word) for before, word in pairwise(generate)]
    code = next(text for text in blocks("python") if "runs/first" in text)
    for command in (
        [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments],
        [
            sys.executable,
            "-c",
            code + "\nassert set(pairs) == {'train', 'test'} and len(pairs['train']) > 20",
        ],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


SAMPLES = ROOT.parent / "shared" / "data"


@pytest.mark.skipif(not SAMPLES.exists(), reason="the shared samples are not here")
def test_the_calibration_of_the_trust_page_is_as_printed(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "trust.md").read_text()
    for name in ("llmbar_natural_pairs.jsonl", "llmbar_natural_verdicts.jsonl"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    code = next(text for kind, text in BLOCK.findall(page) if kind == "python")
    command = next(line for line in commands() if "calibrations/chatgpt" in line)
    for arguments in (["-c", code], ["-c", "from pipelines.cli import main; main()", *command[1:]]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert f"```\n{done.stdout}```" in page

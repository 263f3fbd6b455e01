"""Every config in the tree parses, and every block of the documentation runs, or parses and says why."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pages import BLOCKS, PARSED_ONLY, ROOT, Block, Provider, run, why_not_run, with_scripted_models

from judges.constitution import SHIPPED, Constitution, load_constitution
from judges.scale import Scale
from pipelines.cli import cli
from pipelines.generate_config import GenerateConfig
from pipelines.options import build
from pipelines.quickstart import QuickstartFile, generate_config
from pipelines.rlaif.config import read_config
from prefgen.assets import asset
from prefgen.models import ModelSpec
from prefgen.yamlfile import read_yaml
from trainers.dpo import DPOConfig
from trainers.kto import KTOConfig

COMMANDS = [(block, command) for block in BLOCKS for command in block.commands]


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


# --- commands ----------------------------------------------------------------------------------------


class Built(Exception):  # noqa: N818 - ends a command where its options have become a config
    pass


def test_the_pages_show_every_command() -> None:
    assert {command[0] for _, command in COMMANDS} >= set(cli.list_commands(click.Context(cli))) - {"report"}
    assert any(command[0] == "report" for _, command in COMMANDS)


@pytest.mark.parametrize(
    ("block", "command"), COMMANDS, ids=[f"{block.place} {command[0]}" for block, command in COMMANDS]
)
def test_commands_of_the_pages_take_their_options(
    block: Block, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a command whose options exist and whose values its config takes; nothing is run."""
    if "--config" in command:
        pytest.skip("the page makes its file, and runs it")
    found = cli.get_command(click.Context(cli), command[0])
    assert found is not None, f"{block.place}: no command {command[0]}"
    inner = found.callback if not isinstance(found, click.Group) else None
    arguments = command[1:]
    while isinstance(found, click.Group):
        name, found, arguments = found.resolve_command(click.Context(found), arguments)
        assert found is not None, f"{block.place}: {name}"
        inner = found.callback
    found.make_context(command[0], list(arguments))
    module = inspect.getmodule(inner)
    if module is None or not hasattr(module, "build"):
        return

    def stop(*given: Any) -> None:
        build(*given)
        raise Built

    monkeypatch.setattr(f"{module.__name__}.build", stop)
    monkeypatch.chdir(tmp_path)
    with suppress(Built):  # A command without a config has nothing to build.
        run(command)


def test_make_targets_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [words for block in BLOCKS for words in block.lines]
    assert {words[1] for words in lines if words[0] == "make"} <= targets
    for words in lines:
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words


def test_what_is_not_run_says_why() -> None:
    """`pytest tests/test_docs.py -k says_why -s` prints the list."""
    skipped = [
        (block, f"prefgen {' '.join(command[:3])}", why_not_run(command)) for block, command in COMMANDS
    ]
    skipped += [(block, "Python", block.why_not_run) for block in BLOCKS]
    for block, what, why in skipped:
        if why is not None:
            print(f"{block.place}: {what} … is not run: {why}")
    assert {why for *_, why in skipped if why} == set(PARSED_ONLY.values()), "a reason that nothing needs"
    for why in PARSED_ONLY.values():
        for test in re.findall(r"tests/[\w/.]+", why):
            assert (ROOT / test).exists(), test


# --- blocks ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize(
    "page",
    dict.fromkeys(block.page for block in BLOCKS if block.language == "python" or block.commands),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_page_runs(
    page: Path,
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its commands and its Python, from top to bottom, with scripted models; and what it says they print."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    provider = Provider(store)
    as_shown, told = True, ""
    for block in (block for block in BLOCKS if block.page == page):
        if block.language == "" and block.follows and as_shown and told:
            assert _in_order(block.text, told), f"{block.place}: printed was\n{told}"
        capsys.readouterr()
        for program, *command in block.lines:
            if program == "cd":
                monkeypatch.chdir(command[0])
            if program != "prefgen":
                continue
            if why_not_run(command) is not None:
                as_shown = False
                continue
            scripted = with_scripted_models(command)
            as_shown &= not provider.provide(scripted) and scripted == command
            run(scripted)
        if block.language == "python":
            as_shown = False
            _run_python(block, provider)
        told = capsys.readouterr().out


def _in_order(lines: str, printed: str) -> bool:
    left = iter(printed.splitlines())
    return all(line in left for line in lines.splitlines())


def _run_python(block: Block, provider: Provider) -> dict[str, Any]:
    """The names it leaves."""
    provider.provide(re.findall(r'(?<!out=)"([^"\n]+)"', block.text))
    text = re.sub(r'(?<=judge=")[^"]+|(?<=policy=")[^"]+', _scripted, block.text)
    code = compile(text, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if block.why_not_run is not None:
        return {}
    names: dict[str, Any] = {"__name__": "__main__"}
    waiting = eval(code, names)
    if inspect.iscoroutine(waiting):
        asyncio.run(waiting)
    return names


def _scripted(found: re.Match[str]) -> str:
    return "scripted/judge" if found.string[: found.start()].endswith('judge="') else "scripted/writer"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language in ("json", "yaml")], ids=lambda block: block.place
)
def test_data_of_the_pages_is_what_it_says(block: Block, tmp_path: Path) -> None:
    if block.language == "json":
        assert json.loads(block.text)
        return
    values = yaml.safe_load(block.text)
    if "principles" in values:
        assert Constitution.model_validate(values).principles
    elif "levels" in values:
        assert Scale.model_validate(values).scores
    elif "rounds" in values:
        config = tmp_path / "loop.yaml"
        config.write_text(block.text)
        assert read_config(config, tmp_path / "out").file.rounds
    else:
        pytest.fail(f"{block.place}: a YAML block of no known kind")


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "" and re.search(r"\d", block.text)],
    ids=lambda block: block.place,
)
def test_printed_numbers_come_with_their_command(block: Block) -> None:
    """A command or code stands before it in its section, as a block or in the paragraph before."""
    text = "\n".join(block.page.read_text("utf-8").splitlines()[: block.line - 1])
    section = re.split(r"^#+ ", text, flags=re.MULTILINE)[-1]
    assert re.search(r"^```(bash|python)|`(prefgen|make|python) [^`]+`", section, re.MULTILINE), block.text


def test_the_first_job_of_the_readme_runs(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its Python loads is a dataset: the command that makes it as printed, but for the models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    readme = [block for block in BLOCKS if block.page.name == "README.md" and block.page.parent == ROOT]
    code = next(block for block in readme if block.language == "python")
    out = re.findall(r'load_dataset\("([^"]+)"', code.text)[0]
    made = next(command for block in readme for command in block.commands if command[-2:] == ["--out", out])
    scripted = with_scripted_models(made)
    assert scripted != made
    provider = Provider(store)
    provider.provide(scripted)
    run(scripted)
    pairs = _run_python(code, provider)["pairs"]
    assert set(pairs) == {"train", "test"}
    assert len(pairs["train"]) > 20
    assert pairs["train"][0]["chosen"][0]["role"] == "assistant"


SAMPLES = ROOT.parent / "shared" / "data"


@pytest.mark.skipif(not SAMPLES.exists(), reason="the shared samples are not here")
def test_the_calibration_of_the_trust_page_is_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    provider = Provider(tmp_path)
    for name in ("llmbar_natural_pairs.jsonl", "llmbar_natural_verdicts.jsonl"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    page = [block for block in BLOCKS if block.page.name == "trust.md"]
    code, command, printed = (block for block in page[:3])
    _run_python(code, provider)
    run(command.commands[0])
    assert capsys.readouterr().out == printed.text


def test_every_page_of_the_site_ends_with_what_to_do_next() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.read_text("utf-8").rpartition("\n## ")[2].startswith("What to do next\n"), page

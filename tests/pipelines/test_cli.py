"""The command line as a whole: what it lists, and how little it loads to say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from running import FAKES, Runner, some_prompts

from pipelines.cli import COMMANDS, cli


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_list_says_what_the_command_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name]


def test_help_loads_no_command() -> None:
    code = (
        "import sys\nfrom pipelines.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('pydantic', 'numpy', 'pyarrow', 'openai', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "quickstart" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            ["generate", "a b.jsonl", "--overwrite", "--seed", "1"],
            "every answer that came in is kept; go on with:\n  prefgen generate 'a b.jsonl' --seed 1 "
            "--resume\n",
        ),
        (
            ["train", "dpo", "--resume"],
            "checkpoints are kept; go on with:\n  prefgen train dpo --resume\n",
        ),
        (["rlaif", "c.yaml"], "go on with:\n  prefgen rlaif c.yaml --resume\n"),
        (["quickstart"], "go on with:\n  prefgen quickstart --resume\n"),
        (["audit", "run", "--judge", "x"], "the same command pays for none twice\n"),
        (["convert", "f.jsonl"], "error: interrupted\n"),
        (["doctor", "--judge", "x"], "error: interrupted\n"),
        (["pair", "run"], "error: interrupted\n"),
        (["report", "run"], "error: interrupted\n"),
        (["ledger", "stats"], "error: interrupted\n"),
        ([], "error: interrupted\n"),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_an_interrupted_command_says_how_to_go_on_where_it_can(
    prefgen: Runner, monkeypatch: pytest.MonkeyPatch, typed: list[str], told: str
) -> None:
    monkeypatch.setattr(cli, "main", _interrupt)
    ran = prefgen(*typed)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.endswith(told)
    assert ran.err.startswith("error: interrupted")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("doctor", "ledger")])
def test_a_failed_command_prints_nothing_but_its_error_with_json_too(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The exit code says that it failed, and stderr why: there is no result, and so none on stdout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("")
    wrong = {"quickstart": ["--out", "here"], "completion": ["tcsh"], "train": ["dpo", "--data", "nowhere"]}
    wrong |= {"evaluate": ["--annotations", "nowhere.jsonl"], "init": ["here"]}
    typed = wrong.get(name, ["nowhere"])
    ran = prefgen(name, *typed, "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.lower().count("error: ") == 1
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("forced", [{}, {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}], ids=str)
def test_a_pipe_gets_no_progress_and_no_colour(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: dict[str, str]
) -> None:
    for variable, value in forced.items():
        monkeypatch.setenv(variable, value)
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    made = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run")
    failed = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run")
    assert (made.code, failed.code) == (0, 2)
    for said in (made.out, failed.err):
        assert "\x1b[3" not in said, "a colour"
    if not forced:
        assert "\x1b" not in made.out + made.err + failed.err
        assert "\r" not in made.err

"""The command line as a whole: what it lists, and how little it loads to say so."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

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

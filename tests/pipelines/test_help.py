"""Help: a screen of common options, all of them on demand, and completion by the shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from running import Runner

from pipelines.cli import COMMANDS, COMPLETE_VARIABLE, GROUPS, cli

SCREEN = 55


def _walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _walk(found, (*path, name))
    else:
        yield path


ALL = [*_walk(cli)]


def _find(path: tuple[str, ...]) -> click.Command:
    found: click.Command | None = cli
    for name in path:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)
    assert found is not None
    return found


def _help(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments, prog_name="prefgen", env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_fits_a_screen_and_has_what_the_command_cannot_do_without(path: tuple[str, ...]) -> None:
    shown = _help(*path, "--help")
    assert len(shown.splitlines()) <= SCREEN
    assert "--json" in shown
    assert "--quiet" in shown
    for option in _find(path).params:
        if getattr(option, "needed", False):
            assert f"  {option.opts[0]}" in shown


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_all_lists_every_option(path: tuple[str, ...]) -> None:
    shown, whole = (
        set(re.findall(r"^  (--[\w-]+)", _help(*path, form), re.MULTILINE))
        for form in ("--help", "--help-all")
    )
    every = {option.opts[0] for option in _find(path).params if isinstance(option, click.Option)}
    assert every <= whole
    told = f"\n{len(every - shown)} more options: prefgen {' '.join(path)} --help-all\n"
    assert (told in _help(*path, "--help")) == bool(every - shown)


def test_every_job_has_an_example() -> None:
    for path in ALL:
        if path[0] not in ("ledger", "report", "quickstart"):
            assert f"\n  prefgen {' '.join(path)} " in _help(*path, "--help"), path


def test_options_stand_under_their_topic_in_both_forms() -> None:
    shown, whole = _help("generate", "--help"), _help("generate", "--help-all")
    for text in (shown, whole):
        topics = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
        assert topics[0] == "Options:"
        assert topics[-1] == "Run:"
        judge = text.partition("\nJudge:")[2].partition("\n\n")[0]
        assert "--judge" in judge
        assert "--policy" not in judge
    assert "\nSeveral machines:\n" in whole
    assert "\nSeveral machines:\n" not in shown
    assert "\nAdapter:\n" in _help("train", "sft", "--help")


def test_help_in_short_has_the_first_clause_the_choices_and_the_default() -> None:
    shown = _help("judge", "--help")
    assert "Calls in flight per model [default: 64]" in shown
    assert "How to judge: pairwise, pointwise, score, listwise" in shown
    assert "[pairwise|pointwise" in _help("judge", "--help-all")


def test_the_commands_are_grouped_by_the_job() -> None:
    assert sum(map(len, GROUPS.values())) == len(COMMANDS)  # None under two headings.
    shown = _help("--help")
    places = [shown.index(f"\n{heading}:\n") for heading in GROUPS]
    assert places == sorted(places)
    assert "prefgen generate prompts.jsonl --policy" in shown
    assert len(shown.splitlines()) <= SCREEN + 10


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        (["genrate"], "did you mean 'generate'?"),
        (["train", "dop"], "'dpo'"),
        (["zzz"], "there are quickstart,"),
        (["train", "zzz"], "there are dpo,"),
    ],
)
def test_a_wrong_command_names_the_nearest(prefgen: Runner, typed: list[str], near: str) -> None:
    done = prefgen(*typed)
    assert (done.code, done.out) == (2, "")
    assert near in done.err


def _asked(*words: str) -> dict[str, str]:
    """As bash asks: the words, and which of them is being typed."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    return asked | {COMPLETE_VARIABLE: "bash_complete"}


def test_completion_of_commands_imports_none_of_them() -> None:
    code = "import sys\nfrom pipelines.cli import main\ntry: main()\nfinally: print(*sys.modules, sep=',')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | _asked("prefgen", "re"),
    )  # fmt: skip
    *found, modules = done.stdout.splitlines()
    assert found == ["plain,revise", "plain,report"]
    assert not {"pydantic", "numpy", "pipelines.options"} & set(modules.split(","))


def test_completion_of_options(prefgen: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _asked("prefgen", "generate", "--min").items():
        monkeypatch.setenv(name, value)
    assert prefgen().out == "plain,--min-confidence\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_the_shell_that_asks_prefgen(prefgen: Runner, shell: str) -> None:
    done = prefgen("completion", shell)
    assert done.code == 0
    assert f"_PREFGEN_COMPLETE={shell}_complete" in done.out
    assert prefgen("completion", shell, "--json").result == {"shell": shell, "script": done.out.strip()}

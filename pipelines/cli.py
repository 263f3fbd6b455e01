"""The command line: `pipelines/commands/` has one module a command, read when the command is called."""

from __future__ import annotations

import io
import shlex
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from pipelines.helping import Group
from prefgen import __version__
from prefgen.errors import PrefgenError, first_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pipelines.console import Console

_INTERRUPTED = 130
_WIDEST = 12
COMPLETE_VARIABLE = "_PREFGEN_COMPLETE"
"""Environment variable in which a shell asks for completions."""
GROUPS = {
    "Begin": {
        "quickstart": "The whole RLAIF run on embedded models: no key, no network, no GPU.",
        "init": "Write commented configs of the three jobs, which run at once with scripted models.",
        "doctor": "Check the installation, the machine and the models you name; says how to fix what is "
        "wrong.",
        "completion": "Print the completion script of your shell: bash, zsh or fish.",
    },
    "Make data": {
        "generate": "Make a preference dataset from the prompts of a file.",
        "revise": "Criticise and rewrite a model's responses by a constitution, in rounds.",
        "judge": "Judge pairs of responses that exist already; writes one verdict a line.",
        "pair": "Other pairs from a finished run's judgments, or a table of what settings come to.",
        "convert": "Turn feedback, public preference sets, or another stage's rows into rows to train on.",
        "export": "Write a finished run's rows as another trainer takes them, and how to start it.",
    },
    "Trust it": {
        "label": "Show people pairs on a local page and keep their labels, for calibrate.",
        "calibrate": "Hold a judge against human labels: may it be trusted, and how far?",
        "audit": "Look for what is wrong with a finished run's labels; no model is called without --judge.",
        "constitution": "Show a constitution, or what another one would change in a run.",
    },
    "Train": {
        "train": "Train a model: sft, reward, dpo, kto, orpo, grpo or ppo.",
        "rlaif": "Rounds of sample, judge, pair, train and evaluate, which stop when the judge is gamed.",
    },
    "Look": {
        "evaluate": "How often a judge prefers one model's answers to another's, and how sure that is.",
        "report": "Write anew the page of any directory that prefgen made, and summarise it.",
        "why": "How a pair came to be, or why there is none: judgments, arithmetic, rule, trainings.",
    },
    "Keep": {
        "ledger": "Look at and keep up the file of paid answers: stats, export, prune or verify.",
    },
}
"""The commands under their headings, each with the first line of its help: `prefgen --help` imports none."""
COMMANDS = {name: text for commands in GROUPS.values() for name, text in commands.items()}


class _Commands(Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"pipelines.commands.{name}"), name)
        return command

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, context, incomplete)]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl(list(commands.items()), col_max=_WIDEST)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="prefgen")
def cli() -> None:
    """Turns a file of prompts into a preference dataset you can trust, and that into a better model.

    \b
    prefgen init first && cd first && prefgen generate --config generate.yaml
    prefgen generate prompts.jsonl --policy vllm/PATH --judge openai/NAME --out runs/first
    prefgen COMMAND --help

    MODEL is PROVIDER/NAME[@BASE_URL]: openai/NAME, openai/NAME@http://127.0.0.1:8000/v1,
    anthropic/NAME, vllm/PATH_OR_ID, transformers/PATH_OR_ID.
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process with the contract's exit codes."""
    # A scheduler's SIGTERM ends a run as Ctrl-C does, so that the calls in flight are kept.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    from pipelines.console import Console, shown
    from pipelines.launching import first_to_fail

    console = Console()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        ended = cli.main(args=arguments, standalone_mode=False, obj=given, complete_var=COMPLETE_VARIABLE)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        click.echo(shown(said.getvalue()), err=True, nl=False)
        return 2
    except PrefgenError as error:
        if first_to_fail():
            console.error(str(error))
        return error.exit_code
    except BaseExceptionGroup as group:
        return _from_group(group, console)
    except (KeyboardInterrupt, click.Abort):
        if first_to_fail():
            console.error(_how_to_go_on(given))
        return _INTERRUPTED
    # A command that ended with click's Exit gives its code.
    return ended if isinstance(ended, int) else 0


def _how_to_go_on(arguments: list[str]) -> str:
    """What an interrupted command leaves behind, and the command to type."""
    command: click.Command | None = cli
    for word in arguments:
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), word)
    options = {option.name for option in command.params} if command is not None else set()
    if "resume" in options:
        words = [word for word in arguments if word not in ("--overwrite", "--resume")]
        again = shlex.join(["prefgen", *words, "--resume"])
        kept = "checkpoints are" if words[0] == "train" else "every answer that came in is"
        return f"interrupted; {kept} kept; go on with:\n  {again}"
    if {"ledger", "max_cost"} <= options:
        return "interrupted; answers that came in are in the ledger: the same command pays for none twice"
    return "interrupted"


def _from_group(group: BaseExceptionGroup[BaseException], console: Console) -> int:
    """Tasks that fail together: the first error prefgen raised on purpose speaks for all."""
    error = first_of(group, PrefgenError)
    if error is None:
        raise group
    console.error(str(error))
    return error.exit_code

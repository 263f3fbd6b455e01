"""prefgen completion."""

from __future__ import annotations

import click

from pipelines.cli import COMPLETE_VARIABLE, cli
from pipelines.commands.shared import common
from pipelines.console import Console
from pipelines.helping import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def completion(shell: str, as_json: bool, quiet: bool) -> None:
    """Print the completion script of your shell: bash, zsh or fish.

    The line to type once, for each of them:

    \b
    prefgen completion bash >> ~/.bashrc
    prefgen completion zsh >> ~/.zshrc        (below the line with compinit)
    prefgen completion fish > ~/.config/fish/completions/prefgen.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three"
    script = kind(cli, {}, "prefgen", COMPLETE_VARIABLE).source().strip()
    Console(as_json=as_json, quiet=quiet).result({"shell": shell, "script": script}, script)

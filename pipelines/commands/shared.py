"""Options that many commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipelines.waiting import wait_for as wait_for

F = TypeVar("F", bound=Callable[..., Any])


def common(function: F) -> F:
    """The options every command has."""
    for option in (
        click.option("--quiet", is_flag=True, help="No progress and no notes."),
        click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object."),
    ):
        function = option(function)
    return function


def used_directory(function: F) -> F:
    """What to do with an output directory that has been used."""
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace what is at --out."),
        click.option("--resume", is_flag=True, help="Go on with an unfinished run; paid answers are kept."),
    ):
        function = option(function)
    return function

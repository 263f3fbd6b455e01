"""Options that many commands have, and how a command waits for its job."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


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


def run_lean() -> None:
    """Lets the garbage collector look more rarely, and never again at what is loaded already.

    Thousands of calls in flight are many objects and no garbage; it took a fifth of the time of a call.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def wait_for(job: Coroutine[Any, Any, T]) -> T:
    """Runs a job to its end, on uvloop where that is installed: it takes less CPU for each call."""
    run_lean()
    try:
        import uvloop
    except ImportError:
        return asyncio.run(job)
    return uvloop.run(job)

"""Help that fits a screen: `--help` shows a command's common options by topic, `--help-all` all of them.

A config class may name its topics, `topics = {"first_field_of_the_topic": "Its heading"}`: each holds up to
the next field that is named. What stands before the first, and all of a class without topics, is the job's.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

JOB, RUN = "Options", "Run"
_ALL = "pipelines.helping.all"
_WIDEST = 27
_CLAUSE = re.compile(r"[.;] |: (?=of|vllm/|format)")
FEW = 14
"""A command with no more options of its own than this shows all of them."""


class FieldOption(click.Option):
    """An option that was made of a field. `common`: whether it stands in --help too; `needed`: whether the
    command cannot do without it, so that its topic comes first."""

    def __init__(
        self, *args: Any, topic: str = JOB, common: bool = True, needed: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.topic, self.common, self.needed = topic, common or needed, needed


class Command(click.Command):
    """A command whose options are shown by topic."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        show_all = click.Option(
            ["--help-all"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_all,
            hidden=all(_common(param) for param in params),
            help="Show all options and exit.",
        )
        return [*params, show_all]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        whole = bool(ctx.meta.get(_ALL))
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        shown = [option for option in options if whole or _common(option)]
        needed = {_topic(option): 0 for option in options if getattr(option, "needed", False)}
        ranks = {JOB: 1, **needed, RUN: 3}
        by_topic: dict[str, list[tuple[str, str]]] = {}
        for option in sorted(shown, key=lambda option: ranks.get(_topic(option), 2)):
            if (record := option.get_help_record(ctx)) is not None:
                record = record if whole else _in_short(option, *record)
                by_topic.setdefault(_topic(option), []).append(record)
        for topic, records in by_topic.items():
            with formatter.section(topic):
                formatter.write_dl(records, col_max=_WIDEST)
        if len(shown) < len(options):
            formatter.write_paragraph()
            formatter.write_text(f"{len(options) - len(shown)} more options: {ctx.command_path} --help-all")


class Group(click.Group):
    """A group whose commands are shown so; of a name that is none of them it tells the nearest."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], self.list_commands(ctx)
        if name in known or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise click.UsageError(f"no such command {name!r}; {hint}", ctx)


def topics_of(config: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The fields of a config with their headings: its own first, then those it shares with others."""
    for kind in config.__mro__:
        topics: dict[str, str] = vars(kind).get("topics", {})
        heading = JOB
        for name in inspect.get_annotations(kind):
            if name in config.model_fields:
                heading = topics.get(name, heading)
                yield name, heading


def own_fields(config: type[BaseModel]) -> set[str]:
    """What a command shows that does not say which of its options are common: those no other command has."""
    return set(inspect.get_annotations(config)) & config.model_fields.keys()


def _show_all(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _common(option: click.Parameter) -> bool:
    return getattr(option, "common", True)


def _topic(option: click.Option) -> str:
    return getattr(option, "topic", RUN)


def _in_short(option: click.Option, declared: str, text: str) -> tuple[str, str]:
    """The first clause of the help, with the choices there are and the default."""
    text, bracket, default = text.partition(" [default: ")
    text = _CLAUSE.split(text, maxsplit=1)[0].removesuffix(".")
    if isinstance(option.type, click.Choice):
        declared = declared.partition(" [")[0]
        text += f": {', '.join(option.type.choices)}"
    return declared, text + bracket + default.removesuffix(".")

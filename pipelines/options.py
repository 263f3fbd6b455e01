"""Command-line options from config objects: each option is written once, as a field.

The fields of a pydantic model become click options; a YAML file given with `--config` fills what
the command line leaves out.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipelines.helping import FEW, RUN, FieldOption, own_fields, topics_of
from prefgen.errors import InputError, UsageError
from prefgen.yamlfile import first_fault, read_yaml, said_of, validation_message

_FLAGS = {"resume": "resume", "overwrite": "overwrite", "quiet": "quiet", "json": "as_json"}
_RESOLVED = ("inputs", "command")
"""What the config.yaml of a run holds besides options: it may be given as --config again."""
_METAVARS = {int: "N", float: "X"}
C = TypeVar("C", bound=BaseModel)
F = TypeVar("F", bound=Callable[..., Any])


def options_of(
    *configs: type[BaseModel], skip: tuple[str, ...] = (), common: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """A decorator that adds one option for each field of the configs, with the field's help and default; a
    field that several have is one option, that of the first.

    `common`: the fields that --help shows; unset, all of a few, else those that only this command has.
    """

    def decorate(function: F) -> F:
        fields: dict[str, tuple[FieldInfo, str]] = {}
        for config in configs:
            for name, topic in topics_of(config):
                if name not in skip:
                    fields.setdefault(name, (config.model_fields[name], topic))
        shown = set(common) or (fields.keys() if len(fields) <= FEW else own_fields(configs[0]))
        for name, (field, topic) in reversed(fields.items()):
            function = _option(name, field, topic, name in shown)(function)
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            is_eager=True,
            callback=_flags_from,
            help="YAML file with options of this command.",
        )(function)

    return decorate


def build(config: type[C], given: dict[str, Any], beside: type[BaseModel] | None = None) -> C:
    """The config object of what was typed, over what `--config` holds, over the defaults.

    `beside`: another config of the same command, whose own options are left to it. Raises UsageError naming
    the option, or InputError naming file, line and field.
    """
    path: Path | None = given.get("config")
    others = (beside.model_fields.keys() if beside else set()) - config.model_fields.keys()
    given = {name: value for name, value in given.items() if name not in {"config", *others}}
    typed = {name: value for name, value in given.items() if value is not None and value != ()}
    values = read_yaml(path) if path is not None else {}
    values = {str(name).replace("-", "_"): value for name, value in values.items()}
    for name in {*_FLAGS, *_RESOLVED, *others} - config.model_fields.keys():
        values.pop(name, None)
    for name, value in values.items():
        # One model needs no list in YAML, as it needs none on the command line.
        if isinstance(value, str) and name in config.model_fields and _is_list(config.model_fields[name]):
            values[name] = [value]
    try:
        return config.model_validate(values | typed)
    except ValidationError as error:
        fault = first_fault(error)
        name = str(fault["loc"][0]) if fault["loc"] else ""
        if path is not None and name not in typed and name in values:
            raise validation_message(path, error, config, others=others) from error
        if fault["type"] == "missing":
            raise UsageError(f"missing {_shown(name)}: {config.model_fields[name].description}") from error
        message = said_of(fault)
        raise UsageError(
            f"{_shown(name)}: {message} (seen: {fault['input']!r})" if name else message
        ) from error


def _flags_from(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Lets the file set the flags that belong to the command rather than to its config object."""
    if path is not None:
        context.default_map = flags_in(path)
    return path


def flags_in(path: Path) -> dict[str, bool]:
    """The flags that a file of options holds. Raises InputError."""
    values = {str(name): value for name, value in read_yaml(path).items()}
    for name in _FLAGS:
        if not isinstance(values.get(name, False), bool):
            raise InputError(path, f"{name} is not true or false", seen=values[name])
    return {flag: values[name] for name, flag in _FLAGS.items() if name in values}


def _option(name: str, field: FieldInfo, topic: str, common: bool) -> Callable[[F], F]:
    kind, multiple = _click_type(field.annotation)
    flag = _flag(name)
    told: dict[str, Any] = {"cls": FieldOption, "default": None, "help": _help(field)}
    told |= {"topic": RUN if name in _FLAGS else topic, "common": common or name in _FLAGS}
    told["needed"] = field.is_required()
    if kind is bool:
        declaration = f"{flag}/--no-{flag[2:]}" if field.default is True else flag
        return click.option(declaration, name, is_flag=True, **told)
    metavar = _METAVARS.get(kind) if isinstance(kind, type) else None
    return click.option(flag, name, type=kind, multiple=multiple, metavar=metavar, **told)


def _is_list(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple


def _shown(name: str) -> str:
    """A field as the user types it: an argument of the running command in capitals, else an option."""
    context = click.get_current_context(silent=True)
    for parameter in context.command.params if context is not None else ():
        if isinstance(parameter, click.Argument) and parameter.name == name:
            return name.upper()
    return _flag(name)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    if field.is_required() or field.default in (None, ()) or field.default is False:
        return text
    return f"{text} [default: {field.default}]"


def _click_type(annotation: Any) -> tuple[Any, bool]:
    """The click type of a field's annotation, and whether the option may be given several times."""
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _click_type(next(item for item in typing.get_args(annotation) if item is not type(None)))
    if origin is Literal:
        return click.Choice([str(item) for item in typing.get_args(annotation)]), False
    if origin is tuple:
        return _click_type(typing.get_args(annotation)[0])[0], True
    if annotation is Path:
        return click.Path(path_type=Path), False
    return annotation, False

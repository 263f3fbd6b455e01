"""YAML files of the user's: read, and complained about with the line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prefgen.errors import InputError, nearest_file

_DEEPEST, _LARGEST = 50, 100_000


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds. Raises InputError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
        _check_size(path, yaml.compose(text, Loader=yaml.SafeLoader))
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InputError(path, f"broken YAML ({error.problem})", line=line, expected="valid YAML") from error
    except RecursionError as error:
        raise InputError(path, "nested too deeply", expected="a configuration") from error
    except FileNotFoundError as error:
        raise InputError(path, "no such file", fix=nearest_file(path)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(path, f"cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise InputError(
            path,
            "the file is empty" if values is None else "not a mapping of names to values",
            line=1,
            seen=None if values is None else values,
            expected="lines of the form NAME: VALUE",
        )
    return values


def _check_size(path: Path, top: yaml.Node | None) -> None:
    """Raises InputError where aliases (`*name`) make much of little: ten lines can stand for billions."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: int = 0) -> int:
        if above > _DEEPEST:
            raise InputError(path, "nested too deeply", expected=f"at most {_DEEPEST} levels")
        if id(node) not in sizes:
            inner = node.value if isinstance(node.value, list) else []
            parts = (part for item in inner for part in (item if isinstance(item, tuple) else (item,)))
            sizes[id(node)] = 1 + sum(size(part, above + 1) for part in parts)
        return sizes[id(node)]

    if top is not None and size(top) > _LARGEST:
        raise InputError(path, f"more than {_LARGEST:,} values", fix="use fewer aliases (*name)")


def validation_message(
    path: Path,
    error: ValidationError,
    model: type[BaseModel],
    inside: tuple[str, ...] = (),
    others: Iterable[str] = (),
) -> InputError:
    """The first fault pydantic found in the values of `path`, with its line and the nearest known field.

    `inside`: the block of the file that `model` was made of. `others`: fields that the file may have besides.
    """
    fault = first_fault(error)
    where = ".".join(str(part) for part in (*inside, *fault["loc"]))
    line = line_of(path, (*inside, *fault["loc"]))
    if fault["type"] == "extra_forbidden":
        known = [*_fields_at(model, fault["loc"][:-1]), *others]
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        return InputError(
            path,
            f"unknown field {where!r}",
            line=line,
            expected=None if near else ", ".join(known),
            fix=f"did you mean {near[0]!r}?" if near else "remove it",
        )
    message = "required, and missing" if fault["type"] == "missing" else said_of(fault)
    seen = None if fault["type"] == "missing" else fault["input"]
    return InputError(path, f"{where or 'the file'}: {message}", line=line, seen=seen)


def said_of(fault: ErrorDetails) -> str:
    """What pydantic says of a fault, and of a percentage that a share was meant."""
    said = fault["msg"].removeprefix("Value error, ")
    limits, seen = fault.get("ctx") or {}, fault["input"]
    if 1 in (limits.get("lt"), limits.get("le")) and isinstance(seen, int | float) and 1 < seen <= 100:
        return f"{said}: a share, such as {seen / 100:g}"
    return said


def first_fault(error: ValidationError) -> ErrorDetails:
    """A name that is not known before all others: what is missing may only be misspelt."""
    faults = error.errors(include_url=False)
    return next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The field names of the (sub)model at a location, following lists and nested models."""
    current = model
    for part in location:
        if isinstance(part, str) and part in current.model_fields:
            nested = _model_in(current.model_fields[part].annotation)
            current = nested or current
    return list(current.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(item) for item in getattr(annotation, "__args__", ()))
    return next((found for found in inner if found is not None), None)


def line_of(path: Path, location: tuple[int | str, ...]) -> int | None:
    """The line of the deepest part of `location` that the file has."""
    node = yaml.compose(path.read_text(encoding="utf-8"))
    line: int | None = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value.replace("-", "_") == str(part)]
            if not found:
                return line
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line

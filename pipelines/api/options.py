"""Keyword arguments: the fields of the config objects, as on the command line, checked by its `build`."""

from __future__ import annotations

import difflib
import inspect
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.api.rows import ROWS, Written, as_file
from prefgen.errors import UsageError

SHARED = {
    "resume": "Go on with an unfinished run; paid answers are kept.",
    "overwrite": "Replace what is at out.",
    "check_vllm": "Afterwards compare vLLM with transformers on the model.",
    "config": "YAML file with options of this command.",
    "quiet": "No progress and no notes. [default: both in a notebook, neither elsewhere].",
}
"""Help of the keywords that are no fields."""


def fields_of(configs: Iterable[type[BaseModel]], skip: Collection[str] = ()) -> dict[str, FieldInfo]:
    """Those of the first config first, and its own before what it shares with others."""
    found: dict[str, FieldInfo] = {}
    for config in configs:
        for kind in config.__mro__:
            for name in inspect.get_annotations(kind):
                if name in config.model_fields and name not in skip:
                    found.setdefault(name, config.model_fields[name])
    return found


def check_known(name: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raises UsageError for a keyword the function has not, with the nearest that it has."""
    for option in given:
        if option not in known:
            near = difflib.get_close_matches(option.lower(), known, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"help(prefgen.{name}) lists them"
            raise UsageError(f"{name}: no option {option!r}\n  fix: {fix}")


def converted(
    given: Mapping[str, Any], fields: Mapping[str, FieldInfo]
) -> tuple[dict[str, Any], list[Written]]:
    """The keywords as `build` takes them, and the rows among them as files to be written."""
    values, written = dict(given), list[Written]()
    for name, value in given.items():
        if name in ROWS and value is not None and not isinstance(value, str | os.PathLike):
            file = as_file(name, value, given.get("out"))
            written.append(file)
            value = file.path
        if name in fields and typing.get_origin(fields[name].annotation) is tuple and value is not None:
            several = isinstance(value, Iterable) and not isinstance(value, str | os.PathLike)
            value = tuple(map(_path_as_text, value if several else (value,)))
        values[name] = _path_as_text(value)
    return values, written


def _path_as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


# ---------------------------------------------------------------------------- what help() and editors show


def describe(
    function: Callable[..., Any],
    work: Callable[..., Any],
    first: str | None,
    fields: Mapping[str, FieldInfo],
    flags: Mapping[str, Any],
) -> Callable[..., Any]:
    """Gives a function the name, signature and help of what it does. Required options have no default, though
    a `config` file may give them."""
    function.__name__ = function.__qualname__ = work.__name__
    function.__module__ = "prefgen"
    kind, empty = inspect.Parameter, inspect.Parameter.empty
    found = [
        kind(
            name,
            kind.POSITIONAL_OR_KEYWORD if name == first else kind.KEYWORD_ONLY,
            default=empty if field.is_required() else field.default,
            annotation=field.annotation,
        )
        for name, field in sorted(fields.items(), key=lambda item: item[0] != first)
    ]
    flag = {"config": Path | None, "quiet": bool | None}
    found += [
        kind(name, kind.KEYWORD_ONLY, default=default, annotation=flag.get(name, bool))
        for name, default in flags.items()
    ]
    gives = inspect.signature(work).return_annotation
    function.__signature__ = inspect.Signature(found, return_annotation=gives)  # type: ignore[attr-defined]
    told = {name: field.description or "" for name, field in fields.items()}
    told |= {name: SHARED[name] for name in flags}
    lines = (f"    {name}: {' '.join(text.split())}" for name, text in told.items())
    function.__doc__ = f"{inspect.getdoc(work)}\n\nOptions, as of the command:\n" + "\n".join(lines)
    return function


def written_type(name: str, annotation: Any) -> str:
    """A field's type as a caller may give it, as source: `str | Sequence[str]`."""
    if name in ROWS:
        return "Source"
    origin = typing.get_origin(annotation)
    inner = typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(written_type(name, item) for item in inner))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if origin is tuple:
        one = written_type(name, inner[0])
        return f"{one} | Sequence[{one}]"
    if annotation is Path:
        return "StrPath"
    return "None" if annotation is types.NoneType else str(annotation.__name__)

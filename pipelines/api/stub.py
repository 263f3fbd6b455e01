"""`python -m pipelines.api.stub` writes `prefgen/__init__.pyi`: what type checkers and editors know.

To them an option is never required, since a `config` file may hold it; a call checks that.
"""

from __future__ import annotations

import inspect
import textwrap
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipelines.api
import prefgen
from pipelines.api.options import written_type

STUB = Path(prefgen.__file__).with_name("__init__.pyi")
_HEAD = """\
# Written by `python -m pipelines.api.stub`. It names what it needs of the other floors and imports none:
# a checker that followed would read torch and vLLM too.
# fmt: off
# ruff: noqa
import os
from collections.abc import Awaitable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

import pandas as pd
from datasets import Dataset, DatasetDict

"""
_NAMES = """
T = TypeVar("T")
StrPath: TypeAlias = str | os.PathLike[str]
Rows: TypeAlias = Iterable[str | Mapping[str, Any]] | pd.DataFrame | Dataset
Source: TypeAlias = StrPath | Rows
TrainingReport: TypeAlias = Any
__version__: str
__all__: list[str]
_FUNCTIONS: tuple[str, ...]
_RESULTS: tuple[str, ...]

class Job(Awaitable[T]):
    def __await__(self) -> Generator[Any, None, T]: ...
"""


def stub() -> str:
    """The whole file."""
    errors = "\n".join(
        f"from prefgen.errors import {name} as {name}" for name in prefgen.__all__ if name.endswith("Error")
    )
    # What others derive from comes first.
    names = sorted(prefgen._RESULTS, key=lambda name: name not in ("Result", "Estimate"))
    classes = "\n".join(_class(getattr(pipelines.api, name)) for name in names if name != "Job")
    return f"{_HEAD}{errors}\n{_NAMES}\n{classes}\n" + "\n".join(map(_function, prefgen._FUNCTIONS))


_SHOWN = ("__init__", "__await__", "__fspath__")


def _class(kind: type) -> str:
    base = "" if kind.__base__ in (object, ABC, None) else f"({kind.__base__.__name__})"
    lines = [f"    {name}: {text}" for name, text in inspect.get_annotations(kind).items()]
    for name, member in vars(kind).items():
        if isinstance(member, property):
            lines.append("    @property")
            member = member.fget
        if inspect.isfunction(member) and (not name.startswith("_") or name in _SHOWN):
            lines.append(_method(name, member))
    return f"class {kind.__name__}{base}:\n{_told(kind, 4)}\n" + "\n".join(lines) + "\n"


def _method(name: str, method: Callable[..., Any]) -> str:
    signature = inspect.signature(method)
    empty = inspect.Parameter.empty
    shown = [
        item if item.default is empty else item.replace(default=...) for item in signature.parameters.values()
    ]
    # Their annotations are texts.
    text = str(signature.replace(parameters=shown)).replace("'", "").replace("Ellipsis", "...")
    told = _told(method, 8)
    return f"    def {name}{text}:{chr(10) + told if told else ' ...'}"


def _told(thing: Any, indent: int) -> str:
    """Its docstring. A dataclass and what it makes have none of their own."""
    told = inspect.cleandoc(thing.__doc__ or "")
    return textwrap.indent(f'"""{told}"""', " " * indent) if told else ""


def _function(name: str) -> str:
    function = getattr(pipelines.api, name)
    signature = inspect.signature(function)
    shown = [_parameter(item) for item in signature.parameters.values()]
    if next(iter(signature.parameters.values())).kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        shown.insert(1, "*")
    else:
        shown.insert(0, "*")
    # A parameter is not broken in two.
    words = ", ".join(item.replace(" ", "\0") for item in shown)
    body = textwrap.indent(textwrap.fill(words, 104, break_on_hyphens=False, break_long_words=False), "    ")
    body = body.replace("\0", " ")
    about = textwrap.indent((function.__doc__ or "").partition("\n\nOptions")[0], "    ").strip()
    return f'def {name}(\n{body},\n) -> {signature.return_annotation}:\n    """{about}"""\n'


def _parameter(item: inspect.Parameter) -> str:
    return f"{item.name}: {written_type(item.name, item.annotation)} = ..."


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")

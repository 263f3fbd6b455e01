"""From a job to the function of the same name: keywords checked, the console chosen, the loop looked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from pydantic import BaseModel

from pipelines.api.calling import call
from pipelines.api.notebook import console_for
from pipelines.api.options import SHARED, check_known, converted, describe, fields_of
from pipelines.options import build, flags_in
from pipelines.training import in_thread
from prefgen.errors import UsageError

T = TypeVar("T")
Configs: TypeAlias = Sequence[type[BaseModel]]


def function(
    *configs: type[BaseModel], first: str | None = None, skip: Collection[str] = ()
) -> Callable[[Callable[..., Coroutine[Any, Any, T]]], Callable[..., T]]:
    """Above a job `async def name(config, console, *, flags)`: makes it the function that users call.

    Its keywords are the config's fields without `skip`, the flags, `config` and `quiet`. `first`: the one
    that may be given by position. For a job that is no coroutine function there is `plain_function`.
    """

    def decorate(work: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
        name = work.__name__

        def called(*positional: Any, **given: Any) -> T:
            result: T = run(name, work, configs, by_name(name, first, positional, given), skip)
            return result

        return cast(
            "Callable[..., T]", describe(called, work, first, fields_of(configs, skip), flags_of(work, skip))
        )

    return decorate


def plain_function(
    *configs: type[BaseModel], first: str | None = None, skip: Collection[str] = ()
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """The same above `def name(config, console, *, flags)`; where an event loop runs it runs in a thread."""
    return cast("Callable[[Callable[..., T]], Callable[..., T]]", function(*configs, first=first, skip=skip))


def by_name(
    name: str, first: str | None, positional: Sequence[Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments as keywords. Raises TypeError, as Python does, for too many."""
    if not positional:
        return dict(given)
    if first is None or len(positional) > 1:
        takes = f"{first!r} by position, the others by name" if first else "its arguments by name"
        raise TypeError(f"{name}() takes {takes}")
    if first in given:
        raise TypeError(f"{name}() got multiple values for argument {first!r}")
    return {first: positional[0], **given}


def flags_of(work: Callable[..., Any], skip: Collection[str] = ()) -> dict[str, Any]:
    """The keywords that are no fields of a config, with their defaults."""
    parameters = inspect.signature(work).parameters.values()
    own = {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}
    own |= {name: None for name in ("config", "quiet") if name not in skip}
    return {name: own[name] for name in SHARED if name in own}


def run(
    name: str, work: Callable[..., Any], configs: Configs, given: dict[str, Any], skip: Collection[str] = ()
) -> Any:
    """One call. Raises UsageError and its kin; what the job gives, or a `Job`."""
    fields, flags = fields_of(configs, skip), flags_of(work, skip)
    check_known(name, given, [*fields, *flags])
    values, written = converted(given, fields)
    path = Path(values["config"]) if values.get("config") is not None else None
    chosen = flags | (flags_in(path) if path is not None else {}) | values
    chosen = {flag: chosen[flag] for flag in flags if flag != "config"}
    for flag, value in chosen.items():
        if not isinstance(value, bool | None):
            raise UsageError(f"{flag}: expected True or False (seen: {value!r})")
    quiet = chosen.pop("quiet")
    values = {name: value for name, value in values.items() if name not in flags} | {"config": path}
    built = [build(one, values, *(other for other in configs if other is not one)) for one in configs]
    console = console_for(quiet)

    def begin(**more: Any) -> Any:
        for file in written:
            file.write()
        return work(*built, console, **chosen, **more)

    async def beside() -> Any:
        if inspect.iscoroutinefunction(work):
            return await begin()
        hears = "on_log" in inspect.signature(work).parameters
        return await in_thread(lambda _, on_log: begin(**({"on_log": on_log} if hears else {})), built[0])

    return call(name, begin, beside, resumes="resume" in flags or "resume" in fields)

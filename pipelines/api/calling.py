"""One rule for every job: where no event loop runs, a call does the job and returns its result; where one
runs, the same call returns a `Job`, which does nothing until it is awaited.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

from pipelines.waiting import wait_for
from prefgen.errors import PrefgenError, first_of

T = TypeVar("T")
KEPT = "what came in and what was saved is kept: go on with the same call and resume=True"


class Job(Coroutine[Any, Any, T]):
    """A job that was asked for and not yet begun: `run = await prefgen.generate(…)`.

    It is a coroutine: `asyncio.create_task` and `gather` take it, and it is awaited once. One that is thrown
    away unawaited is warned of.
    """

    def __init__(self, name: str, begin: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._name, self._begin = name, begin
        self._begun: Coroutine[Any, Any, T] | None = None
        self._asked_at = _caller()

    @property
    def _coroutine(self) -> Coroutine[Any, Any, T]:
        if self._begun is None:
            self._begun = self._begin()
        return self._begun

    def __await__(self) -> Generator[Any, None, T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        trace: TracebackType | None = None,
    ) -> Any:
        error = kind if isinstance(kind, BaseException) else value or kind()
        return self._coroutine.throw(cast(BaseException, error))

    def close(self) -> None:
        self._coroutine.close()

    def __repr__(self) -> str:
        if self._begun is not None:
            return f"<prefgen.{self._name}(…), awaited>"
        return f"<prefgen.{self._name}(…): nothing is done yet; await me: await prefgen.{self._name}(…)>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"no {name!r} yet: prefgen.{self._name}(…) was called where an event loop runs, so it has to be "
            f"awaited: result = await prefgen.{self._name}(…)"
        )

    def __del__(self) -> None:
        if self.__dict__.get("_asked_at") is not None and self._begun is None:
            message = f"prefgen.{self._name}(…) was never awaited, so nothing was done: put await before it"
            warnings.warn_explicit(message, RuntimeWarning, *self._asked_at)


def _caller() -> tuple[str, int]:
    """File and line of whoever called a function of prefgen's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pipelines.api"):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def call(
    name: str,
    work: Callable[[], T] | Callable[[], Coroutine[Any, Any, T]],
    beside: Callable[[], Coroutine[Any, Any, T]],
    *,
    resumes: bool,
) -> T:
    """The rule. `work`: the job, done here; `beside`: the same for a loop that has others to serve.

    What a loop gives is typed as what it comes to, which is awaitable too: see `Result.__await__`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with _plainly(resumes):
            done = work()
            return wait_for(done) if inspect.iscoroutine(done) else cast(T, done)

    async def awaited() -> T:
        with _plainly(resumes):
            return await beside()

    return cast(T, Job(name, awaited))


@contextmanager
def _plainly(resumes: bool) -> Iterator[None]:
    """Of tasks that fail together the first error prefgen raised on purpose speaks for all; who interrupts a
    job that can be resumed is told so."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = first_of(group, PrefgenError)
        if error is None:
            raise
        raise error from None
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        if resumes:
            error.add_note(KEPT)
        raise

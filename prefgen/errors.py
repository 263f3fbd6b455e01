"""Everything prefgen raises on purpose.

PrefgenError
├── UsageError                    exit 2: an option, config or model spec is wrong
│   ├── InputError                a file, with line, what was seen, what was expected
│   ├── RunDirectoryError         the output directory is in use, or its config changed
│   ├── MissingExtraError         an optional package is not installed
│   └── ModelUnavailableError     no key, no server, no such model: no call can succeed
├── GateError                     exit 3: the result may not be trusted
├── BudgetError                   exit 4: stopped by a limit the user set; resumable
└── CallError                     one call to a model failed; the engine decides what follows
    ├── RateLimitError            429 or overload: slow down, does not use up an attempt
    │   └── ServerAwayError       it answered before and takes no connection: wait for it as for a 429
    ├── TransientError            worth another attempt: connection lost, 5xx, malformed body
    ├── DeadlineError             no answer in time
    ├── UnsupportedParameterError this model refuses a parameter; strip it and ask again
    └── RequestRefusedError       the provider rejects this request for good (bad input, policy)

A message says what was seen, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal, TypeVar

E = TypeVar("E", bound=BaseException)


class PrefgenError(Exception):
    """Base of every error prefgen raises on purpose."""

    exit_code = 1


class UsageError(PrefgenError):
    exit_code = 2


class InputError(UsageError):
    """A file is not what it should be. `line` counts from 1."""

    def __init__(
        self,
        path: str | Path,
        message: str,
        *,
        line: int | None = None,
        seen: object = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        where = f"{path}:{line}" if line is not None else f"{path}"
        parts = [f"{where}: {message}"]
        if seen is not None:
            parts.append(f"seen: {_shorten(seen)}")
        if expected:
            parts.append(f"expected: {expected}")
        if fix:
            parts.append(f"fix: {fix}")
        super().__init__("\n  ".join(parts))
        self.path, self.line = Path(path), line


class RunDirectoryError(UsageError):
    pass


class MissingExtraError(UsageError):
    """An optional package is missing; the message holds the command to type."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'the package {package!r} is not installed; run: pip install "prefgen[{extra}]"')


class ModelUnavailableError(UsageError):
    pass


class GateError(PrefgenError):
    exit_code = 3


class BudgetError(PrefgenError):
    exit_code = 4


class CallError(PrefgenError):
    """One call to a model failed."""

    status: Literal["api_error", "timeout"] = "api_error"


class RateLimitError(CallError):
    """`retry_after`: seconds the provider asked us to wait, None if it did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerAwayError(RateLimitError):
    pass


class TransientError(CallError):
    pass


class DeadlineError(CallError):
    status: Literal["api_error", "timeout"] = "timeout"


class UnsupportedParameterError(CallError):
    """`capability`: the field of `Capabilities` that turned out to be missing."""

    def __init__(self, capability: str, message: str) -> None:
        super().__init__(message)
        self.capability = capability


class RequestRefusedError(CallError):
    pass


def first_of(error: BaseException, kind: type[E]) -> E | None:
    """The first error of a kind among those that tasks raised together; the error itself where it is one."""
    while isinstance(error, BaseExceptionGroup):
        found = error.subgroup(kind)
        if found is None:
            return None
        error = found.exceptions[0]
    return error if isinstance(error, kind) else None


def nearest_file(path: Path) -> str:
    """What to do where there is no file of this name."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"check the path: there is no folder {path.parent} that can be read"
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"check the path; did you mean {path.with_name(near[0])}?" if near else "check the path"


def _shorten(value: object, limit: int = 160) -> str:
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

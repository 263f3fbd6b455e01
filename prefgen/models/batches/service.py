"""What a provider's batches do, and what its failures mean there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from prefgen.completion import CompletionRequest, Model, Reply
from prefgen.errors import TransientError
from prefgen.models.http import Endpoint, wire_error
from prefgen.models.wire import MOST_BYTES, HTTPAnswer

SKEW = 600.0
"""Seconds by which a provider's clock and ours may differ."""
NOT_RUN = 0
"""Status of a request that was not carried out: expired or cancelled. It costs nothing."""
ASIDE = 60.0
"""Seconds to wait for an answer about a batch."""
TRANSFER = 600.0
"""Seconds to wait while a batch is sent."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` requests. `ended`: nothing more will come, and the results may be read, which hold at
    least `paid` answers. `refused`: why the batch as a whole was not taken; `full`: it would be later, or
    if it were smaller. `lost`: the provider keeps its results no longer."""

    total: int
    done: int
    ended: bool
    paid: int = 0
    refused: str = ""
    full: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request: an HTTP status with its body, or NOT_RUN."""

    custom_id: str
    status: int
    body: bytes = b""


UNREADABLE = Result("", NOT_RUN)
"""A line of results that cannot be read."""


class Batchable(Model, Protocol):
    """An adapter whose calls can be made by others: it writes their JSON and reads the answers."""

    name: str
    endpoint: Endpoint

    def payload(self, request: CompletionRequest, samples: tuple[int, ...]) -> dict[str, object]: ...

    def read(self, body: bytes, request: CompletionRequest, samples: tuple[int, ...]) -> Reply: ...


class BatchService(Protocol):
    """The batches of one provider. `most`, `most_bytes`: what one may hold. `path`: where one request would
    go by itself. All raise as `prefgen.models.http` has it."""

    endpoint: Endpoint
    path: str
    most: int
    most_bytes: int

    async def check(self) -> None:
        """Raises NoSuchRouteError where the server has no batches."""

    def line(self, custom_id: str, payload: Mapping[str, object]) -> bytes:
        """One request as it stands in a batch."""

    async def submit(self, tag: str, lines: Sequence[bytes]) -> str:
        """Sends a batch; returns its id. After a TransientError or DeadlineError it may have arrived."""

    async def find(self, tag: str, requests: int, since: float, known: frozenset[str]) -> str | None:
        """The id of a batch that was sent with this tag after `since` (Unix time), if it arrived. Where the
        provider keeps no tags: one with as many requests that is not `known`; its results tell."""

    async def look(self, batch: str) -> Progress: ...

    def results(self, batch: str) -> AsyncIterator[Result]:
        """In any order; of what is lost in a cut body nothing, or UNREADABLE."""


@asynccontextmanager
async def asking(endpoint: Endpoint, path: str) -> AsyncIterator[None]:
    """Around calls of an SDK: its errors as the table in `prefgen.models.http` has them."""
    try:
        yield
    except endpoint.sdk.APIConnectionError as error:
        raise endpoint.connection_error(wire_error(error)) from None
    except endpoint.sdk.APIStatusError as error:
        endpoint.answered = True
        response = error.response
        answer = HTTPAnswer(response.status_code, response.headers, response.content)
        raise await endpoint.status_error(path, answer, {}) from None
    except (endpoint.sdk.APIError, httpx2.HTTPError) as error:
        raise TransientError(f"{endpoint.spec}: {path}: {error or type(error).__name__}") from None
    endpoint.answered = True


async def read_lines(response: AbstractAsyncContextManager[Any]) -> AsyncIterator[bytes]:
    """The lines of a streamed JSONL body. An SDK's own splits at U+2028 too, which JSON leaves in texts."""
    rest = b""
    async with response as body:
        async for chunk in body.iter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
            if len(rest) > MOST_BYTES:
                raise TransientError(f"a line of more than {MOST_BYTES >> 20} MiB in a batch's results")
    if rest.strip():
        yield rest


class Line(BaseModel):
    """One line of a file of results."""

    custom_id: str


L = TypeVar("L", bound=Line)


def parse_line(kind: type[L], line: bytes) -> L | None:
    """None where the line is cut, or no such line."""
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        return None

"""Anthropic's message batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel

from prefgen.models.batches.service import (
    ASIDE,
    NOT_RUN,
    SKEW,
    TRANSFER,
    UNREADABLE,
    Line,
    Progress,
    Result,
    asking,
    parse_line,
    read_lines,
)
from prefgen.models.http import Endpoint

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Of the error types in `anthropic.types.shared.error_object`; results of a batch have no status."""


class AnthropicBatches:
    """At most 100,000 requests and 256 MB, within 24 hours; results are kept 29 days
    (platform.claude.com/docs/en/build-with-claude/batch-processing). A batch carries no tag: one that was
    not written down is known again by its size and hour, and for sure by the ids in its results."""

    path = "/v1/messages"
    most, most_bytes = 100_000, 256_000_000

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self._batches = endpoint, endpoint.client.messages.batches

    async def check(self) -> None:
        async with self._asking():
            await self._batches.list(limit=1, timeout=ASIDE)

    def line(self, custom_id: str, payload: Mapping[str, object]) -> bytes:
        return orjson.dumps({"custom_id": custom_id, "params": payload})

    async def submit(self, tag: str, lines: Sequence[bytes]) -> str:
        async with self._asking():
            batch = await self._batches.create(
                requests=[orjson.loads(line) for line in lines], timeout=TRANSFER
            )
        return str(batch.id)

    async def find(self, tag: str, requests: int, since: float, known: frozenset[str]) -> str | None:
        found: list[tuple[float, str]] = []
        async with self._asking():
            async for batch in self._batches.list(limit=100, timeout=ASIDE):
                after = batch.created_at.timestamp() - since
                if after < -SKEW:
                    break
                if _total(batch.request_counts) == requests and batch.id not in known:
                    found.append((abs(after), str(batch.id)))
        return min(found)[1] if found else None

    async def look(self, batch: str) -> Progress:
        async with self._asking():
            seen = await self._batches.retrieve(batch, timeout=ASIDE)
        counts = seen.request_counts
        return Progress(
            total := _total(counts),
            total - counts.processing,
            seen.processing_status == "ended",
            paid=counts.succeeded,
            lost=seen.processing_status == "ended" and seen.results_url is None,
        )

    async def results(self, batch: str) -> AsyncIterator[Result]:
        async with self._asking():
            content = self._batches.with_streaming_response.results(batch, timeout=TRANSFER)
            async for line in read_lines(content):
                yield _result(parse_line(_Line, line))

    def _asking(self) -> Any:
        return asking(self.endpoint, "/v1/messages/batches")


def _total(counts: Any) -> int:
    return int(counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired)


class _Outcome(BaseModel):
    type: Literal["succeeded", "errored", "canceled", "expired"]
    message: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class _Line(Line):
    result: _Outcome


def _result(line: _Line | None) -> Result:
    if line is None:
        return UNREADABLE
    outcome = line.result
    if outcome.type == "succeeded":
        return Result(line.custom_id, 200, orjson.dumps(outcome.message))
    if outcome.type == "errored":
        body = outcome.error or {}
        kind = (body.get("error") or {}).get("type", "")
        return Result(line.custom_id, _STATUS.get(kind, 500), orjson.dumps(body))
    return Result(line.custom_id, NOT_RUN)

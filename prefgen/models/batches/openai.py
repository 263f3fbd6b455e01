"""OpenAI's batches: a file of requests goes up, a file of answers and one of errors come down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

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

_TAG = "prefgen"
_ENDED = ("completed", "failed", "expired", "cancelled")
_NOT_RUN = ("batch_expired", "batch_cancelled")


class OpenAIBatches:
    """At most 50,000 requests and 200 MB, to one model, within 24 hours (`openai.resources.batches.create`);
    input and output files are kept 30 days (`openai.resources.files.create`)."""

    path = "/chat/completions"
    most, most_bytes = 50_000, 200_000_000

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self._client = endpoint, endpoint.client

    async def check(self) -> None:
        async with asking(self.endpoint, "/batches"):
            await self._client.batches.list(limit=1, timeout=ASIDE)

    def line(self, custom_id: str, payload: Mapping[str, object]) -> bytes:
        request = {"custom_id": custom_id, "method": "POST", "url": f"/v1{self.path}", "body": payload}
        return orjson.dumps(request)

    async def submit(self, tag: str, lines: Sequence[bytes]) -> str:
        async with asking(self.endpoint, "/files"):
            file = await self._client.files.create(
                file=(f"prefgen-{tag}.jsonl", b"\n".join(lines) + b"\n"), purpose="batch", timeout=TRANSFER
            )
        async with asking(self.endpoint, "/batches"):
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=f"/v1{self.path}",
                completion_window="24h",
                metadata={_TAG: tag},
                timeout=TRANSFER,
            )
        return str(batch.id)

    async def find(self, tag: str, requests: int, since: float, known: frozenset[str]) -> str | None:
        async with asking(self.endpoint, "/batches"):
            async for batch in self._client.batches.list(limit=100, timeout=ASIDE):
                if batch.created_at < since - SKEW:
                    break
                if (batch.metadata or {}).get(_TAG) == tag:
                    return str(batch.id)
        return None

    async def look(self, batch: str) -> Progress:
        async with asking(self.endpoint, "/batches"):
            seen = await self._client.batches.retrieve(batch, timeout=ASIDE)
        counts = seen.request_counts
        done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
        faults = (seen.errors and seen.errors.data) or []
        words = "; ".join(f"{fault.code}: {fault.message}" for fault in faults[:3])
        return Progress(
            total,
            done,
            seen.status in _ENDED,
            paid=counts.completed if counts else 0,
            refused=(words or "no reason given") if seen.status == "failed" else "",
            full=any(fault.code == "token_limit_exceeded" for fault in faults),
        )

    async def results(self, batch: str) -> AsyncIterator[Result]:
        async with asking(self.endpoint, "/batches"):
            seen = await self._client.batches.retrieve(batch, timeout=ASIDE)
        for file in (seen.output_file_id, seen.error_file_id):
            if file is None:
                continue
            async with asking(self.endpoint, "/files"):
                content = self._client.files.with_streaming_response.content(file, timeout=TRANSFER)
                async for line in read_lines(content):
                    yield _result(parse_line(_Line, line))


class _Response(BaseModel):
    status_code: int
    body: Any = None


class _Line(Line):
    response: _Response | None = None
    error: dict[str, Any] | None = None


def _result(line: _Line | None) -> Result:
    if line is None:
        return UNREADABLE
    if line.response is not None:
        # Status 0 has been seen in the output file of a batch that counted no failure.
        status = line.response.status_code or 500
        return Result(line.custom_id, status, orjson.dumps(line.response.body))
    error = line.error or {}
    if error.get("code") in _NOT_RUN:
        return Result(line.custom_id, NOT_RUN)
    return Result(line.custom_id, 500, orjson.dumps({"error": error}))

"""What the adapters for servers share: one sender over an SDK's client, and what each failure means.

    refused, DNS, TLS, before any answer          ModelUnavailableError
    the same after an answer; cut; not JSON       TransientError
    401 402 403 404 405 501, no quota or credit   ModelUnavailableError
    429 529, 503 of an overloaded server          RateLimitError
    408 409, other 5xx                            TransientError
    400 422 about a parameter we can leave out    UnsupportedParameterError
    other 4xx                                     RequestRefusedError

The SDKs' own retries are off: the engine retries, and two layers doing so would multiply the waits and
hide rate limits from the one that slows down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from prefgen.completion import Reply
from prefgen.errors import (
    DeadlineError,
    ModelUnavailableError,
    PrefgenError,
    RateLimitError,
    RequestRefusedError,
    TransientError,
    UnsupportedParameterError,
)

NO_KEY = "no-key"
_Body = TypeVar("_Body", bound=BaseModel)
_NO_FUNDS = re.compile(r"insufficient_quota|billing_|credit balance is too low")
_OVERLOADED = re.compile(r"overload|slow down|at capacity|too many requests", re.I)
# A value out of range must stay an error: only a parameter that is not wanted at all may be left out.
_UNWANTED = re.compile(
    r"unsupported|(?:not|n't)(?: yet| both)?(?: be)? (?:support|allow|permit|accept|available|used|specified)"
    r"|unknown|unrecogni[sz]ed|unexpected|extra[_ ](?:inputs|fields|forbidden)|deprecated|only the default",
    re.I,
)
_SYSTEM = re.compile(
    r"system['\"]? (?:role|message|prompt|instruction)|role.{0,40}\bsystem"
    r"|developer instruction|must alternate",
    re.I,
)
# What one choice was asked for may be left out whatever the words are: asking in another way costs nothing.
_ALWAYS_OPTIONAL = ("logprobs", "n", "structured_output")
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "logprobs": ("logprobs", "top_logprobs"),
    "structured_output": ("response_format", "structured_outputs", "output_config"),
    "n": ("n",),
    "seed": ("seed",),
    "top_p": ("top_p",),
    "temperature": ("temperature",),
}


class NoSuchRouteError(ModelUnavailableError):
    """The server is there and does not know the path."""


def find_key(variable: str, key: str | None, url: str | None, spec: str) -> str:
    """The key for a provider; a placeholder where a server was named, as local ones ask for none."""
    found = key or os.environ.get(variable)
    if found or url:
        return found or NO_KEY
    raise ModelUnavailableError(
        f"{spec}: no key; set {variable}, or name a server of your own: {spec}@http://HOST:PORT/…"
    )


class PooledClient(httpx2.AsyncClient):
    """Room for thousands of calls at once; how long an answer may take is for the engine.

    A pool looks at each of its connections for each request: 1,024 calls at once through one pool take
    six times as long as through these small ones. Few calls stay in the first pool, on warm connections.
    """

    def __init__(self, pools: int = 64, calls_each: int = 32) -> None:
        verified = httpx2.create_ssl_context()
        timeout = httpx2.Timeout(3600, connect=10, pool=None)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        super().__init__(verify=verified, timeout=timeout)
        self._calls_each = calls_each
        self._in_flight = [0] * pools
        self._clients = [
            httpx2.AsyncClient(verify=verified, timeout=timeout, limits=limits, follow_redirects=True)
            for _ in range(pools)
        ]

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        free = (pool for pool, calls in enumerate(self._in_flight) if calls < self._calls_each)
        pool = next(free, None)
        if pool is None:
            pool = self._in_flight.index(min(self._in_flight))
        self._in_flight[pool] += 1
        try:
            return await self._clients[pool].send(request, **how)
        finally:
            self._in_flight[pool] -= 1

    async def aclose(self) -> None:
        await super().aclose()
        for client in self._clients:
            await client.aclose()


@dataclass(slots=True)
class Endpoint:
    """One served model. `client`: an SDK's async client made without retries; `sdk`: its module."""

    spec: str
    name: str
    url: str
    key_variable: str
    key: str = field(repr=False)
    sdk: Any = field(repr=False)
    client: Any = field(repr=False)
    models_path: str = "/models"
    answered: bool = False

    async def post(self, path: str, payload: Mapping[str, object]) -> bytes:
        """The body of a 200. Raises what the table above says; no message holds the key."""
        try:
            response: httpx2.Response = await self.client.post(path, cast_to=httpx2.Response, body=payload)
        # `from None`: the SDK's errors hold the request, headers and all.
        except self.sdk.APIConnectionError as error:
            raise self.connection_error(error.__cause__ or error) from None
        except self.sdk.APIStatusError as error:
            self.answered = True
            raise await self.status_error(path, error.response, payload) from None
        self.answered = True
        # A real key is long; replacing a made-up one ("EMPTY") could change an answer.
        return self._scrub(response.text).encode() if len(self.key) >= 16 else response.content

    def _scrub(self, text: str) -> str:
        return text.replace(self.key, "[key]") if self.key != NO_KEY else text

    def connection_error(self, cause: BaseException) -> PrefgenError:
        words = self._scrub(str(cause)) or type(cause).__name__
        if isinstance(cause, httpx2.ReadTimeout | httpx2.WriteTimeout):
            return DeadlineError(f"{self.spec}: {words}")
        never_there = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
        if never_there and not self.answered:
            return ModelUnavailableError(
                f"{self.spec}: no server answers at {self.url} ({words}); "
                "is it started, and are the address, the proxy settings and the certificate right?"
            )
        return TransientError(f"{self.spec}: the connection failed: {words}")

    async def status_error(
        self, path: str, response: httpx2.Response, payload: Mapping[str, object]
    ) -> PrefgenError:
        status, failure = response.status_code, read_failure(self._scrub(response.text))
        words = f"{self.spec}: {status} {failure.words}"
        if status in (401, 402, 403) or _NO_FUNDS.search(f"{failure.code} {failure.words}"):
            return ModelUnavailableError(f"{words}; check {self.key_variable} and what its account may use")
        if status == 404:
            return await self._missing(path, failure, words)
        if status in (405, 501):
            return NoSuchRouteError(f"{words}: {self.url} does not do {path}")
        if status in (429, 529) or (status == 503 and _OVERLOADED.search(response.text)):
            return RateLimitError(words, retry_after(response.headers))
        if status in (408, 409) or status >= 500:
            return TransientError(words)
        capability = refused_capability(failure, payload) if status in (400, 422) else None
        if capability is not None:
            return UnsupportedParameterError(capability, words)
        return RequestRefusedError(words)

    async def _missing(self, path: str, failure: Failure, words: str) -> PrefgenError:
        if self.name not in failure.words and "model" not in failure.words.lower():
            return NoSuchRouteError(f"{words}: nothing at {path}; is {self.url} the right base URL?")
        served = await self._served()
        return ModelUnavailableError(f"{words}; no model {self.name!r} at {self.url}{served}")

    async def _served(self) -> str:
        with contextlib.suppress(self.sdk.APIError, ValueError, KeyError, TypeError):
            response = await self.client.get(
                self.models_path, cast_to=httpx2.Response, options={"timeout": 5.0}
            )
            names = [str(model["id"]) for model in response.json()["data"]]
            return f"; it serves {', '.join(names[:12])}{' …' if len(names) > 12 else ''}"
        return ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error body: the provider's words, its code and type, and the parameter it names."""

    words: str
    code: str = ""
    param: str = ""


def read_failure(text: str) -> Failure:
    """Reads `{"error": {…}}` (OpenAI, Anthropic, vLLM), `{"detail": …}` (FastAPI), or any text."""
    try:
        data = json.loads(text)
    except ValueError:
        data = text
    error = data.get("error") or data if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return Failure(_short(str(error)))
    words = error.get("message") or error.get("detail") or text
    code = f"{error.get('code') or ''} {error.get('type') or ''}"
    param = str(error.get("param") or "")
    if isinstance(words, list) and words and isinstance(words[0], dict):
        first = words[0]
        words, code = first.get("msg", words), str(first.get("type", ""))
        param = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    return Failure(_short(str(words)), code, param)


def refused_capability(failure: Failure, payload: Mapping[str, object]) -> str | None:
    """The field of `Capabilities` that a 400 is about, if we sent it and can do without it."""
    said = f"{failure.code} {failure.words}"
    named = re.split(r"[.\[]", failure.param)[0]
    for capability, names in _PARAMETERS.items():
        sent = [name for name in names if name in payload]
        about = sent and (named in names or any(_mentions(failure.words, name) for name in sent))
        if about and (capability in _ALWAYS_OPTIONAL or _UNWANTED.search(said)):
            return capability
    if _has_system(payload) and _SYSTEM.search(f"{failure.param} {failure.words}"):
        return "system_role"
    return None


def _mentions(words: str, name: str) -> bool:
    if name == "n":
        return re.search(r"['\"`]n['\"`]|\bn\s*(?:=|>|<|must|greater|larger)", words) is not None
    return re.search(rf"(?<!\w){name}(?!\w)", words) is not None


def _has_system(payload: Mapping[str, object]) -> bool:
    messages = payload.get("messages")
    return isinstance(messages, list) and any(message["role"] == "system" for message in messages)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or a date); None if not said."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(headers[name]) * unit
            return max(0.0, seconds) if math.isfinite(seconds) else None
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    return None


def parse_body(kind: type[_Body], body: bytes) -> _Body:
    """A 200's body as `kind`. Raises TransientError if it is cut, not JSON, or an error in disguise."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        seen = read_failure(body.decode(errors="replace")).words
        raise TransientError(f"unusable answer: {place}: {first['msg']}; seen: {seen}") from None


async def each(calls: Iterable[Coroutine[Any, Any, Reply]]) -> Reply:
    """One call a sample, all at once, as one reply. The first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    replies = [task.result() for task in tasks]
    return Reply(tuple(one for reply in replies for one in reply.completions), replies[0].served)


def _short(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"

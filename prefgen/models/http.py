"""What the adapters for servers share: one sender, and what each failure means.

    refused, DNS, TLS, before any answer          ModelUnavailableError
    the same after an answer                      ServerAwayError
    cut; not JSON; an error in a 200              TransientError
    401 402 403 404 405 501, no quota or credit   ModelUnavailableError
    3xx: a key goes to no address but the named   ModelUnavailableError
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
import os
import re
import ssl
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import orjson
from pydantic import BaseModel, ValidationError

from prefgen.completion import Reply
from prefgen.errors import (
    ModelUnavailableError,
    PrefgenError,
    RateLimitError,
    RequestRefusedError,
    ServerAwayError,
    TransientError,
    UnsupportedParameterError,
    UsageError,
)
from prefgen.models.failures import Failure, read_failure, refused_capability, retry_after
from prefgen.models.wire import CONNECT_TIMEOUT, HTTPAnswer, Wire, WireError
from prefgen.secrets import SHORTEST, check_url

NO_KEY = "no-key"
_Body = TypeVar("_Body", bound=BaseModel)
_NO_FUNDS = re.compile(r"insufficient_quota|billing_|credit balance is too low")
_OVERLOADED = re.compile(r"overload|slow down|at capacity|too many requests", re.I)
_PER_CALL = (b"content-length", b"connection", b"accept-encoding")
"""Headers that are not the same for all calls, or that the connection decides."""


class NoSuchRouteError(ModelUnavailableError):
    """The server is there and does not know the path."""


def find_key(variable: str, key: str | None, url: str | None, spec: str) -> str:
    """The key for a provider; a placeholder where a server was named, as local ones ask for none.

    Raises UsageError for a key that no header can hold, and for a URL that holds a key.
    """
    if url:
        check_url(url, variable.replace("API_KEY", "BASE_URL"))
    found = (key or os.environ.get(variable) or "").strip()
    wrong = next((place for place, sign in enumerate(found, start=1) if not "!" <= sign <= "~"), None)
    if wrong is not None:
        raise UsageError(f"{variable}: character {wrong} of the key is none that a key has; copy it anew")
    if found or url:
        return found or NO_KEY
    raise ModelUnavailableError(
        f"{spec}: no key; set {variable}, or name a server of your own: {spec}@http://HOST:PORT/…"
    )


def _has_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), getproxies()
    return bool({parts.scheme, "all"} & proxies.keys()) and not proxy_bypass(parts.netloc.rpartition("@")[2])


def tls_of(url: str) -> ssl.SSLContext:
    """Verifies certificates. Reading those that are trusted takes a while, and http needs none of them."""
    if url.startswith("https:"):
        return httpx2.create_ssl_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def open_http(tls: ssl.SSLContext) -> httpx2.AsyncClient:
    """For an SDK: how many calls there are and how long an answer may take is for the engine."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx2.Timeout(3600, connect=CONNECT_TIMEOUT, pool=None)
    # A redirect is not followed: the key would go to whatever server it names.
    return httpx2.AsyncClient(verify=tls, timeout=timeout, limits=limits)


@dataclass(slots=True)
class Endpoint:
    """One served model. `client`: an SDK's async client made without retries; `sdk`: its module.

    The SDK builds one request a path: its URL, its headers, the key. All others are sent with the same head
    over `Wire`, or by the SDK where a proxy is set.
    """

    spec: str
    name: str
    url: str
    key_variable: str
    key: str = field(repr=False)
    sdk: Any = field(repr=False)
    client: Any = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)
    models_path: str = "/models"
    answered: bool = False
    _wire: Wire = field(init=False, repr=False)
    _by_sdk: bool = field(init=False)
    _heads: dict[str, bytes] = field(default_factory=dict, repr=False)
    _learning: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    def __post_init__(self) -> None:
        self._wire, self._by_sdk = Wire(self.url, self.tls), _has_proxy(self.url)

    async def aclose(self) -> None:
        self._wire.close()
        await self.client.close()

    async def post(self, path: str, payload: Mapping[str, object]) -> bytes:
        """The body of a 200. Raises what the table above says; no message holds the key."""
        body = orjson.dumps(payload)
        try:
            answer = await self._send(path, body)
        # `from None`: the SDK's errors hold the request, headers and all.
        except WireError as error:
            raise self.connection_error(error) from None
        self.answered = True
        if answer.status >= 300:
            raise await self.status_error(path, answer, payload) from None
        # A real key is long; replacing a made-up one ("EMPTY") could change an answer.
        return (
            answer.content.replace(self.key.encode(), b"[key]")
            if len(self.key) >= SHORTEST
            else answer.content
        )

    async def _send(self, path: str, body: bytes) -> HTTPAnswer:
        if not self._by_sdk:
            head = self._heads.get(path) or await self._learn_head(path)
            return await self._wire.send(head, body)
        return await self._send_by_sdk(path, body)

    async def _learn_head(self, path: str) -> bytes:
        # The first calls come many at once, and the SDK takes milliseconds for one.
        async with self._learning:
            if path not in self._heads:
                self._heads[path] = await self._head(path)
        return self._heads[path]

    async def _head(self, path: str) -> bytes:
        """What the SDK would write before the body, but for the body's length."""
        seen: list[httpx2.Request] = []

        def keep(request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return httpx2.Response(200, json={})

        async with httpx2.AsyncClient(transport=httpx2.MockTransport(keep)) as client:
            await self.client.with_options(http_client=client).post(path, cast_to=httpx2.Response, body={})
        (request,) = seen
        lines = [b"POST %b HTTP/1.1" % request.url.raw_path]
        lines += [b"%b: %b" % pair for pair in request.headers.raw if pair[0].lower() not in _PER_CALL]
        return b"\r\n".join(lines) + b"\r\n"

    async def _send_by_sdk(self, path: str, body: bytes) -> HTTPAnswer:
        try:
            response: httpx2.Response = await self.client.post(path, cast_to=httpx2.Response, content=body)
        except self.sdk.APIStatusError as error:
            response = error.response
        except self.sdk.APIConnectionError as error:
            raise wire_error(error) from None
        return HTTPAnswer(response.status_code, response.headers, response.content)

    def _scrub(self, text: str) -> str:
        return text.replace(self.key, "[key]") if self.key != NO_KEY else text

    def connection_error(self, error: WireError) -> PrefgenError:
        words = self._scrub(str(error))
        if not error.connecting:
            return TransientError(f"{self.spec}: the connection failed: {words}")
        if "CERTIFICATE_VERIFY_FAILED" in words:
            return ModelUnavailableError(
                f"{self.spec}: the certificate of {self.url} is not trusted ({words}); for a server "
                "of your own put its certificate or its authority's in a PEM file, named in SSL_CERT_FILE"
            )
        if self.answered:
            return ServerAwayError(f"{self.spec}: the server at {self.url} is gone ({words})")
        return ModelUnavailableError(
            f"{self.spec}: no server answers at {self.url} ({words}); "
            "is it started, and are the address, the proxy settings and the certificate right?"
        )

    async def status_error(
        self, path: str, answer: HTTPAnswer, payload: Mapping[str, object]
    ) -> PrefgenError:
        status, failure = answer.status, read_failure(self._scrub(answer.text))
        words = f"{self.spec}: {status} {failure.words}"
        if 300 <= status < 400:
            place = answer.headers.get("location", "another address")
            return ModelUnavailableError(f"{self.spec}: {self.url} redirects to {place}; give that address")
        if status in (401, 402, 403) or _NO_FUNDS.search(f"{failure.code} {failure.words}"):
            return ModelUnavailableError(f"{words}; check {self.key_variable} and what its account may use")
        if status == 404:
            return await self._missing(path, failure, words)
        if status in (405, 501):
            return NoSuchRouteError(f"{words}: {self.url} does not do {path}")
        if status in (429, 529) or (status == 503 and _OVERLOADED.search(answer.text)):
            return RateLimitError(words, retry_after(answer.headers))
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


def wire_error(error: Exception) -> WireError:
    """A connection that failed under an SDK."""
    cause = error.__cause__ or error
    before = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
    return WireError(str(cause) or type(cause).__name__, connecting=before)


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

"""HTTP/1.1 over kept connections: the way of one request's bytes and its answer's, and nothing else.

The SDKs' transports cost one to two milliseconds of CPU a call; with parsing by httptools (llhttp) this costs
a twentieth of it (`benchmarks/engine.py` prints both). Proxies are left to the SDK's client.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT = 10.0
MOST_BYTES = 256 << 20
"""Of an answer's body; a larger one is an error."""


class WireError(Exception):
    """The connection failed. `connecting`: before there was one, so that the server has seen nothing."""

    def __init__(self, words: str, *, connecting: bool = False) -> None:
        super().__init__(words)
        self.connecting = connecting


@dataclass(frozen=True, slots=True)
class HTTPAnswer:
    """`headers`: by lower-case name."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")


class Wire:
    """All connections to one server. A connection serves one call at a time and is kept for the next."""

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        self._host, secure = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if secure else 80)
        self._tls = tls if secure else None
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def send(self, head: bytes, body: bytes) -> HTTPAnswer:
        """`head`: the request line and all headers but `content-length`. Raises WireError.

        A kept connection that the server closes without a word is what servers do to idle ones: the request
        is then sent once more on a new one.
        """
        request = b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        kept = self._take()
        if kept is not None:
            try:
                return await self._ask(kept, request)
            except WireError:
                if kept.answering:
                    raise
        return await self._ask(await self._connect(), request)

    async def _ask(self, connection: _Connection, request: bytes) -> HTTPAnswer:
        self._busy.add(connection)
        try:
            answer = await connection.ask(request)
        except BaseException:
            # Whatever still comes of the answer must not meet the next question.
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    def _take(self) -> _Connection | None:
        """The connection used last: the others may time out at the server."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, connection = await loop.create_connection(
                    _Connection, self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            raise WireError(f"no connection within {CONNECT_TIMEOUT:g} s", connecting=True) from None
        except OSError as error:
            raise WireError(str(error) or type(error).__name__, connecting=True) from error
        return connection

    def close(self) -> None:
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """The methods named `on_…` are called by the parser. `answering`: something of an answer has come."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[HTTPAnswer] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._whole_head = False
        self.usable = False
        self.answering = False

    async def ask(self, request: bytes) -> HTTPAnswer:
        assert self._transport is not None
        self.answering = False
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def abort(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport, self.usable = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # Nobody asked: a server may say that it closes the connection.
            self.abort()
            return
        self.answering = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"no HTTP answer ({error})")

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self._answer is None:
            return
        if error is None and self._whole_head and not self._headers.keys() & _LENGTHS:
            self._done()  # Without a length the end of the connection is the end of the body.
        else:
            self._fail(
                f"the server closed the connection in the middle of an answer ({error or 'no reason'})"
            )

    def on_message_begin(self) -> None:
        self._headers, self._body, self._size, self._whole_head = {}, [], 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._whole_head = True

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST_BYTES:
            self._fail(f"an answer of more than {MOST_BYTES >> 20} MiB")
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self.usable = self.usable and self._parser.should_keep_alive()
            self._done()

    def _done(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(HTTPAnswer(self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def _fail(self, words: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(WireError(words))
        self.abort()


_LENGTHS = {"content-length", "transfer-encoding"}

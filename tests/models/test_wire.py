"""HTTP/1.1 as servers really speak it: chunks, cuts, closings, and bytes that come one by one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from prefgen.models import wire
from prefgen.models.wire import Wire, WireError

HEAD = b"POST /x HTTP/1.1\r\nhost: test\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[Wire]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    subject = Wire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", ssl.create_default_context())
    try:
        yield subject
    finally:
        subject.close()
        server.close()


def saying(answer: bytes, *, byte_by_byte: bool = False, then_close: bool = False) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for piece in [bytes([byte]) for byte in answer] if byte_by_byte else [answer]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if then_close:
                return

    return talk


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Some: Thing\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, CONTINUE])
@pytest.mark.parametrize("byte_by_byte", [False, True])
async def test_an_answer_in_every_form(answer: bytes, byte_by_byte: bool) -> None:
    async with serving(saying(answer, byte_by_byte=byte_by_byte)) as subject:
        for _ in range(2):
            found = await subject.send(HEAD, b"{}")
            assert (found.status, found.content) == (200, b"hello")
        assert len(subject._idle) == 1  # Both went over one connection.


async def test_a_body_that_ends_with_the_connection() -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\nhello", then_close=True)) as subject:
        assert (await subject.send(HEAD, b"{}")).content == b"hello"
        assert not subject._idle


async def test_headers_are_found_by_lower_case_names() -> None:
    async with serving(saying(LENGTH)) as subject:
        assert (await subject.send(HEAD, b"{}")).headers["x-some"] == "Thing"


@pytest.mark.parametrize(
    "answer",
    [
        LENGTH[:-2],
        CHUNKED[:-6],
        LENGTH[:20],
        b"",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
    ],
)
async def test_an_answer_that_is_cut_or_none(answer: bytes) -> None:
    async with serving(saying(answer, then_close=True)) as subject:
        with pytest.raises(WireError) as caught:
            await subject.send(HEAD, b"{}")
        assert not caught.value.connecting
        assert not subject._idle


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await read_request(reader)
        asked += 1
        writer.write(LENGTH)
        await writer.drain()
        await read_request(reader)  # The second question over this connection gets no word.

    async with serving(talk) as subject:
        for _ in range(3):
            assert (await subject.send(HEAD, b"{}")).content == b"hello"
    assert asked == 3


async def test_a_call_that_is_given_up_does_not_give_its_answer_to_the_next() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_request(reader)
        await asyncio.sleep(0.1 if body == b"slow" else 0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + body)
        await writer.drain()
        await reader.read()

    async with serving(talk) as subject:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await subject.send(HEAD, b"slow")
        assert (await subject.send(HEAD, b"fast")).content == b"fast"


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    huge = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000
    async with serving(saying(huge)) as subject:
        with pytest.raises(WireError, match="an answer of more than"):
            await subject.send(HEAD, b"{}")


async def test_nobody_there() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(WireError) as caught:
        await Wire(f"http://127.0.0.1:{port}", ssl.create_default_context()).send(HEAD, b"{}")
    assert caught.value.connecting

"""Servers whose bytes, certificates or names are wrong: one clear failure each, and a clean next call."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prefgen.budget import Account
from prefgen.completion import CompletionRequest, Model
from prefgen.engine import EngineModel, Limits
from prefgen.errors import ModelUnavailableError, ServerAwayError, TransientError
from prefgen.messages import user
from prefgen.models import open_model

ASK = CompletionRequest(user("x"))
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}}
BODIES = {
    "openai": {"id": "c", "model": "m", "choices": [CHOICE],
               "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
    "anthropic": {
        "id": "c", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "fine"}], "usage": {"input_tokens": 3, "output_tokens": 1},
    },
}  # fmt: skip
PROVIDERS = sorted(BODIES)


def body_of(provider: str) -> bytes:
    return json.dumps(BODIES[provider]).encode()


def sized(body: bytes, length: int | None = None) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (len(body) if length is None else length) + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def broken(body: bytes) -> dict[str, tuple[bytes, bool]]:
    """What a server says instead of its answer, and whether it hangs up then."""
    half = len(body) // 2
    return {
        "nothing": (b"", True),
        "half a head": (sized(body)[:30], True),
        "half a body": (sized(body)[:-half], True),
        "a body longer than its length": (sized(body, half), False),
        "a body shorter than its length": (sized(body, len(body) + 40), True),
        "chunks that stop": (chunked(body[:half], end=b""), True),
        "half a chunk": (chunked(body[:half])[: -half // 2 - 5], True),
        "a chunk of no size": (chunked(body[:half], end=b"zz\r\n\r\n"), True),
        "half a JSON object": (sized(body[:half]), False),
        "no JSON": (sized(b"<html>Bad gateway</html>"), False),
        "an empty body": (sized(b""), False),
        "JSON of another kind": (sized(b'{"hello": 1}'), False),
        "an error in a 200": (sized(b'{"error": {"message": "overloaded", "type": "server_error"}}'), False),
        "another protocol": (b"220 mail.example.org ESMTP\r\n", True),
    }


@asynccontextmanager
async def serving(*answers: tuple[bytes, bool], tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that gives these answers one after the other, the last again and again."""
    left = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                answer, hang_up = left.pop(0) if len(left) > 1 else left[0]
                writer.write(answer)
                await writer.drain()
                if hang_up:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def opened(provider: str, url: str) -> Model:
    return await open_model(f"{provider}/m@{url}{'/v1' if provider == 'openai' else ''}")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("kind", broken(b"x" * 100))
async def test_a_broken_answer_is_worth_another_try_and_the_next_call_is_clean(
    kind: str, provider: str
) -> None:
    body = body_of(provider)
    async with serving(broken(body)[kind], broken(body)[kind], (sized(body), False)) as url:
        model = await opened(provider, url)
        with pytest.raises(TransientError) as caught:
            await model.complete(ASK)
        assert f"{provider}/m" in str(caught.value) or "unusable answer" in str(caught.value)
        subject = EngineModel(model, Limits(deadline=5, first_wait=0.01), Account())
        assert (await subject.complete(ASK)).completions[0].text == "fine"
        assert subject.engine.retries == (1 if kind != "nothing" else subject.engine.retries)
        assert (await subject.complete(ASK)).completions[0].text == "fine"
        await subject.aclose()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_bytes_after_an_answer_are_not_the_next_one(provider: str) -> None:
    body = body_of(provider)
    stray = sized(body.replace(b"fine", b"evil"))
    async with serving((sized(body) + stray, False), (sized(body), False)) as url:
        model = await opened(provider, url)
        for _ in range(3):
            assert (await model.complete(ASK)).completions[0].text == "fine"
        await model.aclose()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 and its key, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_certificate_of_nobody_known_is_refused_and_can_be_trusted(
    provider: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving((sized(body_of(provider)), False), tls=tls_of(certificate)) as url:
        model = await opened(provider, url)
        with pytest.raises(ModelUnavailableError) as caught:
            await model.complete(ASK)
        assert "certificate verify failed" in str(caught.value)
        assert "SSL_CERT_FILE" in str(caught.value)
        await model.aclose()
        # What the message says to do works.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusting = await opened(provider, url)
        assert (await trusting.complete(ASK)).completions[0].text == "fine"
        await trusting.aclose()


async def test_a_certificate_of_another_host_is_refused(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving((sized(body_of("openai")), False), tls=tls_of(certificate)) as url:
        model = await opened("openai", url.replace("127.0.0.1", "localhost"))
        with pytest.raises(ModelUnavailableError, match="localhost"):
            await model.complete(ASK)
        await model.aclose()


def nameless(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", nameless)
    model = await opened("openai", "http://no-such-host.example")
    with pytest.raises(ModelUnavailableError) as caught:
        await model.complete(ASK)
    assert "http://no-such-host.example/v1" in str(caught.value)
    assert "Name or service not known" in str(caught.value)
    assert "address" in str(caught.value)
    await model.aclose()


async def test_a_name_server_that_fails_in_mid_run_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    body = body_of("openai")
    async with serving((sized(body), True)) as url:  # It hangs up, so that each call connects anew.
        model = await opened("openai", url.replace("127.0.0.1", "localhost"))
        subject = EngineModel(model, Limits(deadline=5, first_wait=0.01), Account())
        assert (await subject.complete(ASK)).completions[0].text == "fine"
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", nameless)
            with pytest.raises(ServerAwayError):
                await model.complete(ASK)
            waiting = asyncio.create_task(subject.complete(ASK))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        assert (await waiting).completions[0].text == "fine"
        assert subject.engine.retries == 0
        await subject.aclose()

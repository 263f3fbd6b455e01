"""A key goes to nobody who cannot show a certificate for the name that was called."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from models.conftest import Canned, FakeServer, _handler, _Server

from prefgen.completion import CompletionRequest, Model
from prefgen.errors import ModelUnavailableError
from prefgen.messages import user
from prefgen.models.anthropic import AnthropicModel
from prefgen.models.openai import OpenAIModel

KEY = "sk-0123456789abcdefghijklmnop"


def certificate(folder: Path, address: str) -> Path:
    """A certificate for an address, signed by itself, with its private key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - day).not_valid_after(now + day).add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    path = folder / f"{address}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, form, plain)
    )
    return path


@contextmanager
def served(fake: FakeServer, pem: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server: ThreadingHTTPServer
    with _Server(("127.0.0.1", 0), _handler(fake)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def ask(provider: str, url: str) -> str:
    model: Model = (
        OpenAIModel("m", "openai/m", f"{url}/v1", KEY)
        if provider == "openai"
        else AnthropicModel("m", "anthropic/m", url, KEY)
    )
    try:
        return (await model.complete(CompletionRequest(user("hello")))).completions[0].text
    finally:
        await model.aclose()


@pytest.fixture
def state() -> FakeServer:
    body = {
        "model": "m",
        "choices": [{"finish_reason": "stop", "message": {"content": "hi"}}],
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
    }
    return FakeServer(answers=[Canned(body)])


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_server_that_signed_for_itself_is_refused_and_gets_no_key(
    tmp_path: Path, state: FakeServer, provider: str
) -> None:
    with (
        served(state, certificate(tmp_path, "127.0.0.1")) as url,
        pytest.raises(ModelUnavailableError, match="certificate") as told,
    ):
        await ask(provider, url)
    assert state.headers == []
    assert KEY not in str(told.value)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_trusted_certificate_is_taken_for_its_own_name_only(
    tmp_path: Path, state: FakeServer, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = certificate(tmp_path, "127.0.0.1"), certificate(tmp_path, "127.0.0.9")
    monkeypatch.setenv("SSL_CERT_FILE", str(mine))
    with served(state, mine) as url:
        assert await ask(provider, url) == "hi"
    assert len(state.headers) == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with served(state, other) as url, pytest.raises(ModelUnavailableError, match="certificate"):
        await ask(provider, url)
    assert len(state.headers) == 1

"""A loopback HTTP server with canned answers, so that the real SDKs and their transport run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Canned:
    """`cut`: the connection closes in the middle of the body."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False

    def content(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass
class FakeServer:
    """Gives `answers` in order, the last one again and again; `models` at any path ending in /models.
    `delay`: seconds before each answer; `before`: how many answers had been given when a call came. `reply`:
    answers a call by itself, after the delay."""

    url: str = ""
    answers: list[Canned] = field(default_factory=list)
    models: tuple[str, ...] = ("served-one", "served-two")
    paths: list[str] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    delay: float = 0.0
    given: int = 0
    before: list[int] = field(default_factory=list)
    reply: Callable[[dict[str, Any]], Any] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def says(
        self, body: Any, status: int = 200, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.answers.append(Canned(body, status, headers or {}, cut))

    def next(self) -> Canned:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._give(Canned({"data": [{"id": name} for name in fake.models]}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with fake.lock:
                fake.paths.append(self.path)
                fake.sent.append(sent := json.loads(body))
                fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                fake.before.append(fake.given)
            time.sleep(fake.delay)
            with fake.lock:
                fake.given += 1
                answer = fake.next() if fake.reply is None else Canned(fake.reply(sent))
            self._give(answer)

        def _give(self, answer: Canned) -> None:
            content = answer.content()
            self.send_response(answer.status)
            headers = {"content-type": "application/json", "content-length": str(len(content))}
            for name, value in (headers | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if answer.cut else content)
            self.close_connection = self.close_connection or answer.cut

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    # The default of 5 waiting connections resets the rest of a burst.
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    state = FakeServer()
    with _Server(("127.0.0.1", 0), _handler(state)) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "ANTHROPIC"):
        for name in ("API_KEY", "BASE_URL"):
            monkeypatch.delenv(f"{provider}_{name}", raising=False)

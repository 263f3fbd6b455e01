"""A server that speaks OpenAI's chat completions, answers at once or late, and fails as often as told.

    python benchmarks/stub_server.py --latency 0.2 --fault 429=0.05 --fault hang=0.01

Prints its base URL on one line. It parses no more of HTTP than its clients send, because it must be far
faster than any of them; on uvloop where that is installed. Answers depend on the question alone. `GET /stats`
tells what it has answered, and how many questions it has seen twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

FAULTS = ("429", "500", "hang", "malformed", "cut", "error-200")
WORDS = ["the", "of", "a", "model", "judge", "answer", "better", "clear", "short", "kind", "true", "brief"]


@dataclass(slots=True)
class Behaviour:
    """`faults`: share of the calls that meet each. `words`: length of an answer."""

    latency: float = 0.0
    faults: dict[str, float] = field(default_factory=dict)
    words: int = 40
    retry_after: float = 0.2
    seed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seen: set[bytes] = field(default_factory=set)
    inside: int = 0

    def fault(self, chance: float) -> str | None:
        for name, share in self.faults.items():
            chance -= share
            if chance < 0:
                return name
        return None


class Connection(asyncio.Protocol):
    """One client's connection: requests in, answers out after the latency, one after the other."""

    def __init__(self, behaviour: Behaviour, chances: random.Random) -> None:
        self._told, self._chances = behaviour, chances
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end]
        length = _content_length(head)
        if len(self._buffer) < end + 4 + length:
            return
        body = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        self._asked(head, body)

    def _asked(self, head: bytes, body: bytes) -> None:
        told = self._told
        if head.startswith(b"GET"):
            self._send(b"200 OK", json.dumps(_stats(told) if b"/stats" in head else _models()).encode())
            return
        told.counts["calls"] += 1
        told.inside += 1
        told.counts["most at once"] = max(told.counts["most at once"], told.inside)
        question = hashlib.blake2b(body, digest_size=16).digest()
        told.counts["seen twice"] += question in told.seen
        told.seen.add(question)
        fault = told.fault(self._chances.random())
        if fault is not None:
            told.counts[fault] += 1
        if fault == "hang":
            return
        if told.latency and fault != "429":
            asyncio.get_running_loop().call_later(told.latency, self._answer, body, question, fault)
        else:
            self._answer(body, question, fault)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def _answer(self, body: bytes, question: bytes, fault: str | None) -> None:
        told = self._told
        told.inside -= 1
        match fault:
            case "429":
                self._send(b"429 Too Many", _error("slow down"), b"retry-after: %g\r\n" % told.retry_after)
            case "500":
                self._send(b"500 Oops", _error("the server had an error"))
            case "malformed":
                self._send(b"200 OK", b'{"choices": [{"message": {"content": "cut he')
            case "error-200":
                self._send(b"200 OK", _error("overloaded"))
            case _:
                told.counts["answered"] += 1
                self._send(b"200 OK", completion(body, question, told.words), cut=fault == "cut")

    def _send(self, status: bytes, body: bytes, headers: bytes = b"", *, cut: bool = False) -> None:
        if self._transport is None:
            return
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
        self._transport.write(head % (status, headers, len(body)) + (body[: len(body) // 2] if cut else body))
        if cut:
            self._transport.close()


def _content_length(head: bytes) -> int:
    start = head.lower().find(b"content-length:")
    return int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


def completion(body: bytes, question: bytes, words: int) -> bytes:
    """The answer to a request: of a choice or a schema what was asked for, else some words."""
    asked = json.loads(body)
    choices = (asked.get("structured_outputs") or {}).get("choice")
    schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
    chosen = []
    for index in range(asked.get("n", 1)):
        draw = hashlib.shake_128(question + bytes([index])).digest(max(words, 16))
        if schema:
            text = _fill(schema, draw)
        else:
            text = choices[draw[0] % len(choices)] if choices else _prose(draw[:words])
        choice = {
            "index": index,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": text},
        }
        if asked.get("logprobs"):
            tops = [
                {"token": token, "logprob": -0.1 if token == text else -2.4} for token in choices or [text]
            ]
            choice["logprobs"] = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": tops}]}
        chosen.append(choice)
    usage = {"prompt_tokens": len(body) // 4, "completion_tokens": words * len(chosen)}
    return json.dumps({"id": "c", "model": asked["model"], "choices": chosen, "usage": usage}).encode()


def _prose(draw: bytes) -> str:
    return " ".join([WORDS[byte % len(WORDS)] for byte in draw])


def _fill(schema: dict[str, Any], draw: bytes) -> str:
    """A value of a flat object's schema, of a few fields."""
    values: dict[str, Any] = {}
    for byte, (name, wanted) in zip(draw, schema["properties"].items(), strict=False):
        if "enum" in wanted:
            values[name] = wanted["enum"][byte % len(wanted["enum"])]
        else:
            values[name] = byte % 101 if wanted.get("type") in ("integer", "number") else "it is so"
    return json.dumps(values)


def _error(words: str) -> bytes:
    return json.dumps({"error": {"message": words, "type": "server_error", "code": None}}).encode()


def _models() -> dict[str, Any]:
    return {"object": "list", "data": [{"id": "stub", "object": "model"}]}


def _stats(told: Behaviour) -> dict[str, int]:
    return {"inside": told.inside, **told.counts}


async def serve(behaviour: Behaviour, port: int) -> None:
    loop = asyncio.get_running_loop()
    chances = random.Random(behaviour.seed)
    server = await loop.create_server(lambda: Connection(behaviour, chances), "127.0.0.1", port, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


@contextmanager
def stub(latency: float = 0.0, port: int = 0, **faults: float) -> Iterator[str]:
    """The base URL of a stub in a process of its own, for as long as the block lasts."""
    command = [sys.executable, __file__, "--latency", str(latency), "--port", str(port)]
    command += [word for name, share in faults.items() for word in ("--fault", f"{_named(name)}={share}")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _named(argument: str) -> str:
    """`_429` and `error_200` are how a keyword can say 429 and error-200."""
    return argument.strip("_").replace("_", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--words", type=int, default=40, help="length of an answer")
    parser.add_argument("--retry-after", type=float, default=0.2, help="seconds, sent with a 429")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=SHARE", help=", ".join(FAULTS))
    options = parser.parse_args()
    faults = {name: float(share) for name, _, share in (text.partition("=") for text in options.fault)}
    if unknown := faults.keys() - set(FAULTS):
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    behaviour = Behaviour(options.latency, faults, options.words, options.retry_after)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            import uvloop
        except ImportError:
            asyncio.run(serve(behaviour, options.port))
        else:
            uvloop.run(serve(behaviour, options.port))


if __name__ == "__main__":
    main()

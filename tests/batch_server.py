"""Both providers' batch services on loopback, with a memory, and with the faults of the real ones."""

from __future__ import annotations

import email
import email.policy
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prefgen.completion import Completion, CompletionRequest, Sampling
from prefgen.messages import Message
from prefgen.models.scripted import open_scripted

Outcome = tuple[int, Any]
"""Status and body of one request; 0: not carried out, and why (expired, cancelled)."""
OK: Outcome = (200, None)


@dataclass
class Held:
    """One batch: `requests` are (custom id, body). `looks`: how often it was looked at."""

    id: str
    provider: str
    requests: list[tuple[str, dict[str, Any]]]
    metadata: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    looks: int = 0
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass
class BatchServer:
    """`looks`: a batch has ended when it was looked at so often. `outcome(number of the batch, body)`: what
    becomes of a request. `taking`: whether batches are taken. `lost_replies`: batches that are taken, and the
    answer to that never sent. `failing`: looks that answer 500. `cut`: downloads that end half way;
    `silently`: without a word in the headers. `queue`: requests that one batch may hold. `strange`: results
    hold a line of nobody and one twice. `online(body)`: what a direct call comes to."""

    url: str = ""
    looks: int = 2
    outcome: Callable[[int, dict[str, Any]], Outcome] = lambda number, body: OK
    online: Callable[[dict[str, Any]], Outcome] = lambda body: OK
    has_batches: bool = True
    taking: bool = True
    lost_replies: int = 0
    failing: int = 0
    cut: int = 0
    silently: bool = False
    queue: int = 100_000
    strange: bool = False
    held: list[Held] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    direct: list[dict[str, Any]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    authorized: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def sizes(self) -> list[int]:
        return [len(batch.requests) for batch in self.held]

    @property
    def asked_twice(self) -> list[str]:
        """Requests that were carried out in more than one batch, by their body."""
        return [body for body, count in self.sent.items() if count > 1]

    def take(
        self, provider: str, requests: list[tuple[str, dict[str, Any]]], metadata: dict[str, str]
    ) -> Held:
        batch = Held(f"{provider}-batch-{len(self.held) + 1}", provider, requests, metadata)
        self.held.append(batch)
        assert len({name for name, _ in requests}) == len(requests)
        assert all(0 < len(name) <= 64 for name, _ in requests)
        if len(requests) <= self.queue:
            batch.outcomes = [self.outcome(len(self.held), body) for _, body in requests]
            for (_, body), (status, _) in zip(requests, batch.outcomes, strict=True):
                self.sent[json.dumps(body, sort_keys=True)] += status == 200
        return batch

    def ended(self, batch: Held) -> bool:
        return batch.looks >= self.looks

    def look(self, name: str) -> Held | None:
        batch = next((batch for batch in self.held if batch.id == name), None)
        if batch is not None:
            batch.looks += 1
        return batch


def chat(body: dict[str, Any], salt: int = 0) -> dict[str, Any]:
    """OpenAI's answer, by the scripted model of that name."""
    script = open_scripted(body["model"])
    count, seed = body.get("n") or 1, body.get("seed") or salt
    words = tuple((body.get("structured_outputs") or {}).get("choice", ())) if body.get("logprobs") else ()
    form = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    request = CompletionRequest(_messages(body), Sampling(seed=seed), label_words=words, schema=form)
    told = [_echo(request) or script._one(request, sample) for sample in range(count)]
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": one.text},
            "finish_reason": "stop",
            "logprobs": one.label_logprobs
            and {
                "content": [
                    {
                        "token": one.text,
                        "logprob": one.label_logprobs[one.text],
                        "top_logprobs": [{"token": t, "logprob": p} for t, p in one.label_logprobs.items()],
                    }
                ]
            },
        }
        for index, one in enumerate(told)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": sum(one.output_tokens or 0 for one in told)}
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "served-" + body["model"],
        "choices": choices,
        "usage": usage,
    }


def message(body: dict[str, Any], salt: int = 0) -> dict[str, Any]:
    """Anthropic's answer, by the same."""
    form = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    request = CompletionRequest(_messages(body), Sampling(seed=salt), schema=form)
    one = _echo(request) or open_scripted(body["model"])._one(request, 0)
    return {
        "id": "m", "type": "message", "role": "assistant", "model": "served-" + body["model"],
        "content": [{"type": "text", "text": one.text}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": one.output_tokens},
    }  # fmt: skip


def _echo(request: CompletionRequest) -> Completion | None:
    text = request.messages[-1].content
    return Completion(text, output_tokens=1) if text.startswith("echo ") else None


def _messages(body: dict[str, Any]) -> tuple[Message, ...]:
    return tuple(Message(item["role"], item["content"]) for item in body["messages"])


def openai_batch(server: BatchServer, batch: Held) -> dict[str, Any]:
    statuses = [status for status, _ in batch.outcomes]
    ended, full = server.ended(batch), len(batch.requests) > server.queue
    status = "in_progress"
    if full:
        status = "failed"
    elif ended:
        why = {body for status, body in batch.outcomes if status == 0}
        status = "expired" if "expired" in why else "cancelled" if "cancelled" in why else "completed"
    limit = {
        "code": "token_limit_exceeded",
        "message": "Enqueued token limit reached",
        "line": None,
        "param": None,
    }
    done = statuses.count(200) if ended else 0
    failed = sum(status not in (0, 200) for status in statuses) if ended else 0
    return {
        "id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "f",
        "completion_window": "24h", "created_at": int(batch.created), "status": status,
        "metadata": batch.metadata, "errors": {"object": "list", "data": [limit]} if full else None,
        "output_file_id": f"{batch.id}-out" if ended and done and not full else None,
        "error_file_id": f"{batch.id}-err" if ended and done < len(statuses) and not full else None,
        "request_counts": {"total": len(batch.requests), "completed": done, "failed": failed},
    }  # fmt: skip


def openai_lines(server: BatchServer, batch: Held, errors: bool) -> list[dict[str, Any]]:
    lines = []
    for (name, body), (status, told) in zip(batch.requests, batch.outcomes, strict=True):
        if errors != (status != 200):
            continue
        line: dict[str, Any] = {"id": f"r-{name}", "custom_id": name, "response": None, "error": None}
        if status:
            answer = chat(body, hash(name)) if status == 200 else told
            line["response"] = {"status_code": status, "request_id": "q", "body": answer}
        else:
            line["error"] = {"code": f"batch_{told}", "message": "This request could not be executed."}
        lines.append(line)
    return lines


def anthropic_batch(server: BatchServer, batch: Held) -> dict[str, Any]:
    ended = server.ended(batch)
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    for status, told in batch.outcomes:
        counts[_kind(status, told) if ended else "processing"] += 1
    when = datetime.fromtimestamp(batch.created, UTC).isoformat()
    return {
        "id": batch.id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts, "created_at": when, "expires_at": when, "ended_at": when if ended else None,
        "archived_at": None, "cancel_initiated_at": None,
        "results_url": f"{server.url}/v1/messages/batches/{batch.id}/results" if ended else None,
    }  # fmt: skip


def _kind(status: int, told: Any) -> str:
    if status == 200:
        return "succeeded"
    return {"cancelled": "canceled", "expired": "expired"}[told] if status == 0 else "errored"


def anthropic_lines(batch: Held) -> list[dict[str, Any]]:
    lines = []
    for (name, body), (status, told) in zip(batch.requests, batch.outcomes, strict=True):
        result: dict[str, Any] = {"type": _kind(status, told)}
        if status == 200:
            result["message"] = message(body, hash(name))
        elif status:
            result["error"] = {"type": "error", "error": told, "request_id": "q"}
        lines.append({"custom_id": name, "result": result})
    return lines


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._route(b"")

        def do_POST(self) -> None:
            self._route(self.rfile.read(int(self.headers["content-length"])))

        def _route(self, body: bytes) -> None:
            with server.lock:
                key = self.headers.get("authorization") or self.headers.get("x-api-key") or ""
                server.authorized.add(key.removeprefix("Bearer "))
                self._answer(urlsplit(self.path).path.removeprefix("/v1"), body)

        def _answer(self, path: str, body: bytes) -> None:
            match [self.command, *path.strip("/").split("/")]:
                case ["POST", "chat", "completions"]:
                    self._online(json.loads(body), chat)
                case ["POST", "messages"]:
                    self._online(json.loads(body), message)
                case ["POST", "files"]:
                    name = f"file-{len(server.files)}"
                    server.files[name] = self._upload(body)
                    self._give({"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f",
                                "purpose": "batch", "status": "processed"})  # fmt: skip
                case ["GET", "files", name, "content"]:
                    batch = server.look(name[:-4])
                    assert batch is not None
                    self._lines(openai_lines(server, batch, name.endswith("err")))
                case [_, "batches", *_] | [_, "messages", "batches", *_] if not server.has_batches:
                    self._give({"detail": "Not Found"}, 404)
                case ["POST", "batches"]:
                    given = json.loads(body)
                    rows = [json.loads(line) for line in server.files[given["input_file_id"]].splitlines()]
                    assert all(row["url"] == given["endpoint"] for row in rows)
                    self._create(
                        "openai", [(row["custom_id"], row["body"]) for row in rows], given["metadata"]
                    )
                case ["POST", "messages", "batches"]:
                    rows = json.loads(body)["requests"]
                    self._create("anthropic", [(row["custom_id"], row["params"]) for row in rows], {})
                case ["GET", "batches"]:
                    self._list("openai", "after")
                case ["GET", "messages", "batches"]:
                    self._list("anthropic", "after_id")
                case ["GET", "batches", name] | ["GET", "messages", "batches", name]:
                    self._look(name)
                case ["GET", "messages", "batches", name, "results"]:
                    batch = server.look(name)
                    assert batch is not None
                    self._lines(anthropic_lines(batch))
                case _:
                    self._give({"error": {"message": f"nothing at {path}"}}, 404)

        def _online(self, body: dict[str, Any], answer: Callable[..., Any]) -> None:
            server.direct.append(body)
            status, told = server.online(body)
            self._give(answer(body, len(server.direct)) if status == 200 else told, status)

        def _upload(self, body: bytes) -> bytes:
            head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
            for part in email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts():
                if part.get_param("name", header="content-disposition") == "file":
                    content = part.get_payload(decode=True)
                    assert isinstance(content, bytes)
                    return content
            raise AssertionError("no file in the upload")

        def _create(
            self, provider: str, rows: list[tuple[str, dict[str, Any]]], metadata: dict[str, str]
        ) -> None:
            if not server.taking:
                return self._give({"error": {"message": "try later"}}, 503)
            batch = server.take(provider, rows, metadata)
            if server.lost_replies:
                server.lost_replies -= 1
                self.close_connection = True
                self.connection.close()
                return None
            return self._give(self._shown(batch))

        def _shown(self, batch: Held) -> dict[str, Any]:
            return (
                openai_batch(server, batch) if batch.provider == "openai" else anthropic_batch(server, batch)
            )

        def _list(self, provider: str, cursor: str) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            shown = [batch for batch in reversed(server.held) if batch.provider == provider]
            if cursor in query:
                place = next(n for n, batch in enumerate(shown) if batch.id == query[cursor])
                shown = shown[place + 1 :]
            # Pages of two, so that there is a second one to ask for.
            page = [self._shown(batch) for batch in shown[:2]]
            ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
            self._give({"object": "list", "data": page, "has_more": len(shown) > 2, **ends})

        def _look(self, name: str) -> None:
            if server.failing:
                server.failing -= 1
                return self._give({"error": {"message": "internal"}}, 500)
            batch = server.look(name)
            if batch is None:
                return self._give({"error": {"message": f"No batch found with id '{name}'."}}, 404)
            return self._give(self._shown(batch))

        def _lines(self, lines: list[dict[str, Any]]) -> None:
            random.Random(0).shuffle(lines)
            if server.strange:
                lines = [{**lines[0], "custom_id": "somebody-else"}, lines[-1], *lines]
            # As providers write it: U+2028 is no end of a line.
            content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
            length = len(content)
            if server.cut:
                server.cut -= 1
                content = content[: length // 2]
                length = len(content) if server.silently else length
            self.send_response(200)
            self.send_header("content-type", "application/binary")
            self.send_header("content-length", str(length))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = self.close_connection or length != len(content)

        def _give(self, body: Any, status: int = 200) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that is killed is what some tests are about."""


@contextmanager
def serving(**how: Any) -> Iterator[BatchServer]:
    state = BatchServer(**how)
    with _Server(("127.0.0.1", 0), _handler(state)) as http:
        state.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        http.shutdown()
        thread.join()

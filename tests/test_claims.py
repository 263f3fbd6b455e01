"""Questions that several processes ask at once: one asks, the others wait; and nobody waits for the dead."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefgen import claims
from prefgen.claims import Claims
from prefgen.ledger import ledger_key

KEY, OTHER = ledger_key("m", "one"), ledger_key("m", "two")
HOLDER = """
import asyncio, sys
from pathlib import Path
from prefgen.claims import Claims

async def hold():
    claims = Claims(Path(sys.argv[1]))
    await claims.take(bytes.fromhex(sys.argv[2]))
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(hold())
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """KEY is being asked by another process."""
    command = [sys.executable, "-c", HOLDER, str(path), KEY.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        try:
            yield other
        finally:
            other.kill()


async def test_a_question_nobody_asks_is_not_waited_for(tmp_path: Path) -> None:
    subject = Claims(tmp_path / "c")
    for key in (KEY, KEY, OTHER):
        assert not await subject.take(key)
        subject.free(key)
    subject.close()


async def test_a_question_another_process_asks_is_waited_for_until_it_is_done(tmp_path: Path) -> None:
    subject = Claims(tmp_path / "c")
    with held_elsewhere(tmp_path / "c") as other:
        assert not await subject.take(OTHER)
        waiting = asyncio.create_task(_taken(subject))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert other.stdin is not None
        other.stdin.close()
        assert await waiting
    subject.close()


async def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    subject = Claims(tmp_path / "c")
    with held_elsewhere(tmp_path / "c") as other:
        waiting = asyncio.create_task(asyncio.wait_for(_taken(subject), 60))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        other.kill()
        assert await waiting
    subject.close()


async def _taken(subject: Claims) -> bool:
    return await subject.take(KEY)


async def test_a_process_that_was_stopped_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_PATIENCE", 0.2)
    subject = Claims(tmp_path / "c")
    with held_elsewhere(tmp_path / "c"):
        began = time.monotonic()
        assert await _taken(subject)
        assert time.monotonic() - began >= 0.2
    subject.close()


async def test_a_disk_without_locks_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    assert not await _taken(Claims(tmp_path / "c"))

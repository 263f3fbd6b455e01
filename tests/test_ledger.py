"""The ledger: what was paid for is kept, whoever asks, whatever goes wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from making import recorded, scripted

from prefgen import ledger_writer
from prefgen.completion import Capabilities, Completion, CompletionRequest, Reply, Sampling
from prefgen.errors import RequestRefusedError, UsageError
from prefgen.ledger import SCHEMA_VERSION, Ledger, LedgerError, Paid, default_path, ledger_key
from prefgen.ledger_values import Packer
from prefgen.messages import Json, user
from prefgen.models.scripted import ScriptedModel
from prefgen.recorded import RecordedModel


def request(text: str = "hello", n: int = 1, **sampling: float) -> CompletionRequest:
    return CompletionRequest(user(text), Sampling(**sampling), samples=tuple(range(n)))  # type: ignore[arg-type]


def rows(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        count: int = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
    connection.close()
    return count


def counting() -> ScriptedModel:
    return ScriptedModel(lambda request, sample: f"answer {sample}", latency=0.001)


async def test_the_same_question_is_paid_once(tmp_path: Path) -> None:
    model = counting()
    with recorded(model, tmp_path / "l") as behind:
        first, second = await behind.complete(request()), await behind.complete(request())
    assert first == second
    assert len(model.calls) == 1
    assert (behind.usage.requests, behind.usage.cached_requests) == (1, 1)


async def test_the_same_question_at_the_same_time_is_paid_once(tmp_path: Path) -> None:
    model = counting()
    with recorded(model, tmp_path / "l") as behind:
        replies = await asyncio.gather(*(behind.complete(request()) for _ in range(20)))
    assert len(model.calls) == 1
    assert len({reply.completions[0].text for reply in replies}) == 1


async def test_another_run_finds_the_answer(tmp_path: Path) -> None:
    first, second = counting(), counting()
    with recorded(first, tmp_path / "l") as behind:
        before = await behind.complete(request())
    with recorded(second, tmp_path / "l") as behind:
        assert await behind.complete(request()) == before
    assert not second.calls


async def test_two_more_samples_cost_two(tmp_path: Path) -> None:
    model = counting()
    with recorded(model, tmp_path / "l") as behind:
        await behind.complete(request(n=4))
        reply = await behind.complete(request(n=6))
    assert [call.samples for call in model.calls] == [(0, 1, 2, 3), (4, 5)]
    assert [item.text for item in reply.completions] == [f"answer {n}" for n in range(6)]


async def test_fewer_samples_cost_nothing(tmp_path: Path) -> None:
    model = counting()
    with recorded(model, tmp_path / "l") as behind:
        await behind.complete(request(n=4))
        reply = await behind.complete(request(n=2))
    assert len(model.calls) == 1
    assert len(reply.completions) == 2


@pytest.mark.parametrize(
    "other",
    [
        request("Hello"),
        request(temperature=0.5),
        request(top_p=0.5),
        request(max_tokens=7),
        request(seed=1),
        CompletionRequest(user("hello"), label_words=("A", "B")),
        CompletionRequest(user("hello"), choices=("A", "B")),
        CompletionRequest(user("hello"), schema={"type": "object"}),
    ],
)
async def test_another_question_is_paid_anew(other: CompletionRequest, tmp_path: Path) -> None:
    model = counting()
    with recorded(model, tmp_path / "l") as behind:
        await behind.complete(request())
        await behind.complete(other)
    assert len(model.calls) == 2


async def test_changed_weights_are_another_model(tmp_path: Path) -> None:
    first, second = counting(), counting()
    second.identity = "scripted/test#other-weights"
    for model in (first, second):
        with recorded(model, tmp_path / "l") as behind:
            await behind.complete(request())
    assert (len(first.calls), len(second.calls)) == (1, 1)


async def test_everything_a_reply_holds_comes_back(tmp_path: Path) -> None:
    given = Completion("täxt \x00 \U0001f600", "length", {"A": -0.5, "B": float("-inf")}, 3, 4, 2)
    with recorded(scripted(given), tmp_path / "l") as behind:
        await behind.complete(request())
        (back,) = (await behind.complete(request())).completions
    assert back == given


async def test_half_a_surrogate_pair_in_an_answer_is_replaced(tmp_path: Path) -> None:
    with recorded(scripted("smile \ud83d!"), tmp_path / "l") as behind:
        reply = await behind.complete(request())
    assert reply.completions[0].text == "smile ?!"


async def test_a_model_that_gives_too_few_completions_is_a_failed_call(tmp_path: Path) -> None:
    class Short(ScriptedModel):
        async def complete(self, request: CompletionRequest) -> Reply:
            return Reply((Completion("one"),), "short")

    with (
        recorded(Short(lambda request, sample: ""), tmp_path / "l") as behind,
        pytest.raises(RequestRefusedError, match="gave 1 completions where 3"),
    ):
        await behind.complete(request(n=3))
    assert rows(tmp_path / "l") == 0


async def test_a_failed_call_is_not_kept(tmp_path: Path) -> None:
    model = scripted(RequestRefusedError("no"), "yes")
    with recorded(model, tmp_path / "l") as behind:
        with pytest.raises(RequestRefusedError):
            await behind.complete(request())
        assert (await behind.complete(request())).completions[0].text == "yes"


async def test_a_call_in_flight_is_kept_when_its_waiter_is_cancelled(tmp_path: Path) -> None:
    model = ScriptedModel(lambda request, sample: "late", latency=0.05)
    with recorded(model, tmp_path / "l") as behind:
        waiter = asyncio.create_task(behind.complete(request()))
        await asyncio.sleep(0.01)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await behind.aclose()
    assert rows(tmp_path / "l") == 1
    again = counting()
    with recorded(again, tmp_path / "l") as behind:
        assert (await behind.complete(request())).completions[0].text == "late"
    assert not again.calls


async def test_many_writes_at_once_are_all_there(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        keys = [ledger_key("m", {"n": number}) for number in range(500)]
        await asyncio.gather(*(ledger.put("m", {key: {"n": n}}) for n, key in enumerate(keys)))
        assert [ledger.get([key])[key]["n"] for key in keys] == list(range(500))


async def test_the_first_answer_stands(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        assert await ledger.put("m", {b"k": {"v": 1}}) == {b"k": {"v": 1}}
        both = {b"k": {"v": 2}, b"l": {"v": 3}}
        assert await ledger.put("m", both) == {b"k": {"v": 1}, b"l": {"v": 3}}
        assert ledger.get([b"k"]) == {b"k": {"v": 1}}


async def test_two_who_pay_for_one_question_go_on_with_one_answer(tmp_path: Path) -> None:
    with recorded(scripted("one"), tmp_path / "l") as one, recorded(scripted("two"), tmp_path / "l") as two:
        replies = await asyncio.gather(*(behind.complete(request()) for behind in (one, two) * 3))
    assert len({reply.completions[0].text for reply in replies}) == 1
    assert rows(tmp_path / "l") == 1


WRITER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from prefgen.completion import CompletionRequest
    from prefgen.ledger import Ledger
    from prefgen.messages import user
    from prefgen.models.scripted import ScriptedModel
    from prefgen.recorded import RecordedModel

    async def main():
        model = ScriptedModel(
            lambda request, sample: f"{request.messages[0].content} by {sys.argv[2]}", latency=0.002
        )
        with Ledger(Path(sys.argv[1])) as ledger:
            behind = RecordedModel(model, ledger)
            asks = [CompletionRequest(user(str(n))) for n in range(150)]
            replies = await asyncio.gather(*map(behind.complete, asks))
        print(len(replies))

    asyncio.run(main())
    """
)


def test_several_processes_share_one_file_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "new" / "l"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert out.strip() == "150", err
    assert rows(path) == 150


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(LedgerError, match=rf"version {SCHEMA_VERSION + 1}.*upgrade prefgen.*--ledger"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_text("my notes, which are not a database " * 50)
    with pytest.raises(LedgerError, match=r"not a database.*--ledger"):
        Ledger(path)
    assert path.read_text().startswith("my notes")


def test_a_directory_and_a_path_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "l"):
        with pytest.raises(LedgerError, match="--ledger"):
            Ledger(path)


def test_a_broken_row_is_an_error_with_a_fix(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger(path) as ledger:
        with sqlite3.connect(path) as connection:
            connection.execute(
                "INSERT INTO answers (key, value, model) VALUES (?, ?, '')", (b"k", b"rubbish")
            )
        connection.close()
        with pytest.raises(LedgerError, match=r"is broken.*verify --repair.*--ledger"):
            ledger.get([b"k"])


def test_the_default_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PREFGEN_LEDGER")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "prefgen" / "ledger.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".cache" / "prefgen" / "ledger.sqlite"
    monkeypatch.setenv("PREFGEN_LEDGER", "elsewhere")
    assert default_path() == Path("elsewhere")


async def test_a_full_disk_is_an_error_with_a_fix_and_nothing_is_half_written(tmp_path: Path) -> None:
    """A page limit does to SQLite what a full disk does: SQLITE_FULL in the middle of a transaction."""
    path = tmp_path / "l"
    with Ledger(path) as ledger:
        await ledger.put("m", {b"before": {"v": "kept"}})
        ledger._writer.connection.execute("PRAGMA max_page_count = 1")
        big = {f"k{n}".encode(): {"v": os.urandom(3000).hex()} for n in range(50)}
        with pytest.raises(LedgerError, match=r"full.*free disk space"):
            await ledger.put("m", big)
        assert ledger.get(list(big)) == {}
        assert ledger.get([b"before"]) == {b"before": {"v": "kept"}}
    assert rows(path) == 1


async def test_after_a_full_disk_the_next_write_may_work(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger._writer.connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(LedgerError):
            await ledger.put("m", {b"k": {"v": os.urandom(30_000).hex()}})
        ledger._writer.connection.execute("PRAGMA max_page_count = 100000")
        await ledger.put("m", {b"k": {"v": 1}})
        assert ledger.get([b"k"]) == {b"k": {"v": 1}}


def mounted(path: Path, options: str) -> bool:
    path.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False
    )
    return done.returncode == 0


async def fill(ledger: Ledger) -> tuple[int, str]:
    """How many rows went in before the disk was full, and what was said then."""
    for number in range(100):
        try:
            await ledger.put("m", {f"k{number}".encode(): {"v": os.urandom(10_000).hex()}})
        except LedgerError as error:
            return number, str(error)
    raise AssertionError("the disk never filled")


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if os.name != "posix" or os.geteuid() != 0 or not mounted(disk, "size=256k"):
        pytest.skip("needs the right to mount")
    try:
        with Ledger(disk / "l") as ledger:
            kept, said = asyncio.run(fill(ledger))
            assert "free disk space" in said
            assert len(ledger.get([f"k{number}".encode() for number in range(100)])) == kept
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_read_only_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if os.name != "posix" or os.geteuid() != 0 or not mounted(disk, "size=1m"):
        pytest.skip("needs the right to mount")
    try:
        with Ledger(disk / "l"):
            pass
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(LedgerError, match=r"check its permissions.*--ledger"):
            Ledger(disk / "l")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_ledger_error_is_the_users_to_mend() -> None:
    assert issubclass(LedgerError, UsageError)
    assert LedgerError.exit_code == 2


async def test_what_a_model_cannot_do_is_shared_by_all_who_hold_it(tmp_path: Path) -> None:
    model = scripted("x", capabilities=Capabilities())
    with Ledger(tmp_path / "l") as ledger:
        behind = RecordedModel(model, ledger)
    behind.capabilities.learn_missing("n", "no n")
    assert model.capabilities.lacks("n")


VERSION_1 = """
CREATE TABLE answers (
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    model TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (datetime('now'))
);
PRAGMA user_version = 1;
"""


def old_ledger(path: Path, count: int = 3) -> None:
    """A file as version 1 wrote it."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(VERSION_1)
    for number in range(count):
        value = zlib.compress(b'{"v":%d}' % number, 1)
        connection.execute(
            "INSERT INTO answers (key, value, model) VALUES (?, ?, 'm')", (b"k%d" % number, value)
        )
    connection.commit()
    connection.close()


async def test_a_ledger_of_version_1_is_migrated_where_it_is_and_keeps_its_answers(tmp_path: Path) -> None:
    old_ledger(tmp_path / "l")
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.get([b"k0", b"k2"]) == {b"k0": {"v": 0}, b"k2": {"v": 2}}
        await ledger.put("m", {b"k0": {"v": "other"}, b"k9": {"v": 9}}, Paid("run", "m", requests=1))
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.get([b"k0", b"k9"]) == {b"k0": {"v": 0}, b"k9": {"v": 9}}
        assert ledger.spent("run")["m"].requests == 1
        assert ledger.read("PRAGMA user_version") == [(SCHEMA_VERSION,)]


def test_two_processes_migrate_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "l"
    old_ledger(path)
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=60)
        assert out.strip() == "150", err
    with Ledger(path) as ledger:
        assert rows(path) == 153
        assert ledger.spent("none") == {}


def test_several_threads_open_an_old_file_at_the_same_moment(tmp_path: Path) -> None:
    path, together, failed = tmp_path / "l", threading.Barrier(8), list[BaseException]()
    old_ledger(path)

    def open_it() -> None:
        together.wait()
        try:
            with Ledger(path) as ledger:
                assert ledger.spent("r") == {}
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


async def test_what_runs_paid_adds_up_by_run_and_model(tmp_path: Path) -> None:
    paid = Paid("r", "m", 1, 100, 40, 7, 0.25)
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.spent("r") == {}
        await asyncio.gather(*(ledger.put("m", {f"k{n}".encode(): {"v": n}}, paid) for n in range(20)))
        await ledger.charge(paid)
        await ledger.charge(Paid("r", "free", 2))
        await ledger.charge(Paid("other", "m", 5, cost_usd=1.0))
        assert ledger.spent("r") == {
            "free": Paid("r", "free", 2),
            "m": Paid("r", "m", 21, 2100, 840, 147, 5.25),
        }


async def test_a_sum_with_an_unknown_cost_is_unknown(tmp_path: Path) -> None:
    known, unknown = Paid("r", "m", 1, cost_usd=1.0), Paid("r", "m", 1)
    with Ledger(tmp_path / "l") as ledger:
        await ledger.charge(known)
        await asyncio.gather(ledger.charge(known), ledger.charge(unknown))
        await ledger.charge(known)
        assert ledger.spent("r") == {"m": Paid("r", "m", 4)}


async def test_an_answer_another_process_was_faster_with_is_still_paid(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger, Ledger(tmp_path / "l") as other:
        await other.put("m", {b"k": {"v": 1}}, Paid("a", "m", 1))
        await ledger.put("m", {b"k": {"v": 2}}, Paid("b", "m", 1))
        assert ledger.get([b"k"]) == {b"k": {"v": 1}}
        assert ledger.spent("b") == {"m": Paid("b", "m", 1)}


async def test_nothing_is_charged_for_what_could_not_be_stored(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger._writer.connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(LedgerError, match="free disk space"):
            await ledger.put("m", {b"k": {"v": os.urandom(30_000).hex()}}, Paid("r", "m", 1))
        assert ledger.spent("r") == {}


async def test_a_module_keeps_tables_of_its_own_beside_the_answers(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        for _ in range(2):
            ledger.add_tables("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
        await ledger.write(lambda connection: connection.execute("INSERT INTO notes VALUES ('one')"))
        assert ledger.read("SELECT text FROM notes WHERE text != ?", "two") == [("one",)]


async def test_a_change_that_fails_is_undone_alone(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('half')")
        raise ValueError("the other half")

    def whole(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('whole')")

    with Ledger(tmp_path / "l") as ledger:
        ledger.add_tables("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
        results = await asyncio.gather(
            ledger.put("m", {b"k": {"v": 1}}),
            ledger.write(half),
            ledger.write(whole),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [dict, ValueError, type(None)]
        assert ledger.read("SELECT text FROM notes") == [("whole",)]
        assert ledger.get([b"k"]) == {b"k": {"v": 1}}


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"not a ledger.*--ledger"):
        Ledger(path)
    assert path.read_bytes() == before


async def test_as_many_rows_wait_for_a_slow_disk_as_are_let(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "MOST_WAITING", 40)
    seen, insert = list[int](), ledger_writer._insert

    def slow(connection: sqlite3.Connection, rows: Sequence[ledger_writer.Row]) -> set[bytes]:
        time.sleep(0.005)
        seen.append(len(rows))
        return insert(connection, rows)

    monkeypatch.setattr(ledger_writer, "_insert", slow)
    with Ledger(tmp_path / "l") as ledger:
        await asyncio.gather(*(ledger.put("m", {f"k{n}".encode(): {"v": n}}) for n in range(500)))
    assert rows(tmp_path / "l") == 500
    assert max(seen) <= 40


async def test_a_row_that_waits_for_room_is_written_though_its_waiter_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "MOST_WAITING", 1)
    with Ledger(tmp_path / "l") as ledger:
        puts = [asyncio.create_task(ledger.put("m", {f"k{n}".encode(): {"v": n}})) for n in range(10)]
        await asyncio.sleep(0)
        for put in puts:
            put.cancel()
        await asyncio.gather(*puts, return_exceptions=True)
    assert rows(tmp_path / "l") == 10


async def test_one_commit_wakes_the_loop_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wakes, wake = list[object](), loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *what: (wakes.append(what[0]), wake(*what)))
    with Ledger(tmp_path / "l") as ledger:
        await asyncio.gather(*(ledger.put("m", {f"k{n}".encode(): {"v": n}}) for n in range(400)))
    assert len(wakes) < 100


async def test_several_loops_share_one_ledger(tmp_path: Path) -> None:
    def store(ledger: Ledger, name: str) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(ledger.put("m", {f"{name}{n}".encode(): {"v": n}}) for n in range(200)))

        asyncio.run(all_of_them())

    with Ledger(tmp_path / "l") as ledger:
        await asyncio.gather(*(asyncio.to_thread(store, ledger, name) for name in "abc"))
    assert rows(tmp_path / "l") == 600


@pytest.mark.parametrize(
    "value",
    [
        {"text": "täxt \x00 \U0001f600", "n": None, "list": [1, 2.5, {"a": True}]},
        {"score": float("inf"), "nested": {"low": float("-inf")}, "list": [float("inf")]},
        {"half": "\ud83d", "big": 2**70},
        {},
    ],
)
def test_values_come_back_as_they_were(value: dict[str, Json]) -> None:
    packer = Packer()
    assert packer.unpack(packer.pack(value)) == value


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_a_cut_value_is_noticed(length: int) -> None:
    packer = Packer()
    whole = packer.pack({"text": "some words " * 40, "served": "m"})
    with pytest.raises(ValueError, match=r"\w"):
        packer.unpack(whole[: min(length, len(whole) - 1)])


async def test_what_cannot_be_stored_does_not_take_others_with_it(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        results = await asyncio.gather(
            ledger.put("m", {b"k": {"v": 1}}),
            ledger.put("m", {b"bad": {"v": 1}}, Paid("r", "m", 2**70)),
            ledger.put("m", {b"l": {"v": 1}}, Paid("r", "m", 1)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [dict, LedgerError, dict]
        assert set(ledger.get([b"k", b"bad", b"l"])) == {b"k", b"l"}
        assert ledger.spent("r") == {"m": Paid("r", "m", 1)}


async def test_a_closed_ledger_takes_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        pass
    with pytest.raises(LedgerError, match="closed"):
        await ledger.put("m", {b"k": {"v": 1}})

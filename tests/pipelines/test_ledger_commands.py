"""`prefgen ledger`: what is in the file, out of it, too old or broken."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from running import FAKES, Runner, some_prompts

from prefgen.completion import Completion
from prefgen.ledger import SCHEMA_VERSION, Ledger, Paid, ledger_key
from prefgen.recorded import _to_json


def key(number: int) -> bytes:
    return ledger_key("m", {"n": number})


def filled(path: Path, answers: int = 6) -> Path:
    """Answers of two models, a reward model's score, and what two runs paid."""
    first = {key(n): _to_json(Completion(f"answer {n}\x9b31m", label_logprobs={"A": float("-inf")}), "served")
             for n in range(answers)}  # fmt: skip

    async def fill(ledger: Ledger) -> None:
        await ledger.put("m/one", first, Paid("first", "m/one", answers, 100, 40, 10, 0.5))
        await ledger.put("m/score", {key(-1): {"score": 0.25}}, Paid("second", "m/score", 1))

    with Ledger(path) as ledger:
        asyncio.run(fill(ledger))
    return path


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def test_stats_say_what_is_there_and_what_runs_paid(prefgen: Runner, tmp_path: Path) -> None:
    done = prefgen("ledger", "stats", "--ledger", filled(tmp_path / "l"), "--json")
    assert done.code == 0
    found = done.result
    assert (found["rows"], found["version"]) == (7, SCHEMA_VERSION)
    assert [(item["model"], item["rows"]) for item in found["models"]] == [("m/one", 6), ("m/score", 1)]
    assert found["bytes_on_disk"] >= (tmp_path / "l").stat().st_size
    assert found["oldest"] <= found["newest"]
    assert [(paid["run"], paid["requests"], paid["cost_usd"]) for paid in found["spending"]] == [
        ("first", 6, 0.5),
        ("second", 1, None),
    ]
    text = prefgen("ledger", "stats", "--ledger", tmp_path / "l").out
    assert "m/one: 6 answers" in text
    assert "run first, m/one: 6 requests, $0.5000; tokens: 100 in (40 cached), 10 out" in text
    assert "run second, m/score: 1 requests, cost unknown" in text


def test_an_empty_ledger_has_stats_too(prefgen: Runner, tmp_path: Path) -> None:
    with Ledger(tmp_path / "l"):
        pass
    done = prefgen("ledger", "stats", "--ledger", tmp_path / "l", "--json")
    assert (done.code, done.result["rows"], done.result["oldest"]) == (0, 0, None)
    assert prefgen("ledger", "verify", "--ledger", tmp_path / "l").code == 0


def test_the_ledger_of_a_run_is_found_where_runs_look_for_it(prefgen: Runner, tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 3)
    assert prefgen("generate", tmp_path / "p.jsonl", *FAKES, "--out", tmp_path / "run", "--n", 2).code == 0
    done = prefgen("ledger", "stats", "--json")
    assert {item["model"] for item in done.result["models"]} == {"scripted/writer", "scripted/judge"}
    verified = prefgen("ledger", "verify", "--json")
    assert (verified.code, verified.result["broken"]) == (0, [])
    assert verified.result["rows"] == done.result["rows"]


def test_exported_answers_are_json_lines_with_nothing_a_terminal_obeys(
    prefgen: Runner, tmp_path: Path
) -> None:
    done = prefgen("ledger", "export", "--ledger", filled(tmp_path / "l"))
    assert done.code == 0
    assert done.out.isascii()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in done.out.splitlines()]
    assert [line["key"] for line in lines] == [key(n).hex() for n in (*range(6), -1)]
    assert lines[3]["value"]["text"] == "answer 3\x9b31m"
    assert lines[3]["value"]["label_logprobs"] == {"A": None}
    assert lines[-1] == {**lines[-1], "model": "m/score", "value": {"score": 0.25}}


def test_an_export_is_filtered_and_goes_to_a_file(prefgen: Runner, tmp_path: Path) -> None:
    path, out = filled(tmp_path / "l"), tmp_path / "out.jsonl"
    change(path, "UPDATE answers SET created = '2020-01-01 00:00:00' WHERE rowid <= 4")
    command = ("ledger", "export", "--ledger", path, "--model", "m/one", "--since", "30d", "--out", out)
    done = prefgen(*command, "--json")
    assert (done.code, done.result["rows"]) == (0, 2)
    assert len(out.read_text().splitlines()) == 2
    assert not out.with_name("out.jsonl.part").exists()
    again = prefgen(*command)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert prefgen(*command, "--overwrite").code == 0
    assert prefgen("ledger", "export", "--ledger", path, "--since", "2019-12-31").out.count("\n") == 7
    assert prefgen("ledger", "export", "--ledger", path, "--since", "2020-01-02").out.count("\n") == 3


def test_an_export_whose_reader_has_enough_ends_quietly(tmp_path: Path) -> None:
    filled(tmp_path / "l", 5000)
    script = Path(sys.executable).with_name("prefgen")
    with subprocess.Popen(
        [script, "ledger", "export", "--ledger", tmp_path / "l"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert export.stdout.readline().startswith(b'{"key"')
        export.stdout.close()
        assert export.stderr.read() == b""
    assert export.returncode == 0


def test_pruning_takes_the_old_and_leaves_what_was_paid(prefgen: Runner, tmp_path: Path) -> None:
    path = filled(tmp_path / "l", 300)
    change(path, "UPDATE answers SET created = '2020-01-01 00:00:00' WHERE rowid <= 290")
    tried = prefgen("ledger", "prune", "--ledger", path, "--older-than", "30d", "--dry-run", "--json")
    assert (tried.code, tried.result["rows"], tried.result["dry_run"]) == (0, 290, True)
    assert prefgen("ledger", "stats", "--ledger", path, "--json").result["rows"] == 301
    done = prefgen("ledger", "prune", "--ledger", path, "--older-than", "30d", "--json")
    assert (done.code, done.result["rows"]) == (0, 290)
    assert done.result["bytes_on_disk"] < tried.result["bytes_on_disk"]
    left = prefgen("ledger", "stats", "--ledger", path, "--json").result
    assert left["rows"] == 11
    assert left["spending"][0]["requests"] == 300
    with Ledger(path) as ledger:
        assert set(ledger.get([key(0), key(295)])) == {key(295)}


def test_pruning_one_model_leaves_the_others(prefgen: Runner, tmp_path: Path) -> None:
    path = filled(tmp_path / "l")
    assert prefgen("ledger", "prune", "--ledger", path, "--model", "m/one", "--older-than", "1d").code == 0
    assert prefgen("ledger", "stats", "--ledger", path, "--json").result["rows"] == 7
    assert prefgen("ledger", "prune", "--ledger", path, "--model", "m/one").code == 0
    found = prefgen("ledger", "stats", "--ledger", path, "--json").result
    assert [item["model"] for item in found["models"]] == ["m/score"]


def test_a_ledger_in_use_is_not_pruned(prefgen: Runner, tmp_path: Path) -> None:
    path = filled(tmp_path / "l")
    command = ("ledger", "prune", "--ledger", path, "--model", "m/one")
    holder = "import sys; from pathlib import Path; from prefgen.ledger import Ledger\n"
    holder += "with Ledger(Path(sys.argv[1])): print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        refused = prefgen(*command)
        assert prefgen(*command, "--dry-run").code == 0
        other.stdin.close()
    assert refused.code == 2
    assert "in use by another process" in refused.err
    assert prefgen("ledger", "stats", "--ledger", path, "--json").result["rows"] == 7
    assert prefgen(*command).code == 0


BROKEN: dict[str, tuple[str, Any, str]] = {
    "rubbish": ("value", b"rubbish", "cannot be read"),
    "cut": ("value", zlib.compress(b'{"score": 0.5}')[:-4], "cannot be read"),
    "no object": ("value", zlib.compress(b"[1]"), "cannot be read"),
    "no answer": ("value", zlib.compress(b'{"text": "x"}'), "neither an answer nor a score"),
    "no number": ("value", zlib.compress(b'{"score": NaN}'), "neither an answer nor a score"),
    "text for bytes": ("value", "text", "the value is no bytes"),
    "short key": ("key", b"short", "the key is no SHA-256"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_answer_is_named_and_can_be_removed(kind: str, prefgen: Runner, tmp_path: Path) -> None:
    column, value, said = BROKEN[kind]
    path = filled(tmp_path / "l")
    change(path, f"UPDATE answers SET {column} = ? WHERE rowid = 3", value)
    named = value.hex() if column == "key" else key(2).hex()
    found = prefgen("ledger", "verify", "--ledger", path)
    assert found.code == 3
    assert "1 of 7 answers are broken" in found.err
    assert f"{named}: {said}" in found.err
    assert "--repair" in found.err
    repaired = prefgen("ledger", "verify", "--ledger", path, "--repair", "--json")
    assert (repaired.code, repaired.result["broken"], repaired.result["removed"]) == (0, [named], 1)
    again = prefgen("ledger", "verify", "--ledger", path, "--json")
    assert (again.code, again.result["rows"]) == (0, 6)


def test_broken_answers_are_left_out_of_an_export_and_told(prefgen: Runner, tmp_path: Path) -> None:
    path = filled(tmp_path / "l")
    change(path, "UPDATE answers SET value = x'00' WHERE rowid = 2")
    done = prefgen("ledger", "export", "--ledger", path)
    assert done.code == 3
    assert len(done.out.splitlines()) == 6
    assert "1 answers are broken and were left out, 6 were exported" in done.err
    assert "verify --repair" in done.err


def test_a_damaged_file_is_found(prefgen: Runner, tmp_path: Path) -> None:
    path = filled(tmp_path / "l", 2000)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(20_000))
    done = prefgen("ledger", "verify", "--ledger", path)
    assert done.code == 3
    assert "the file is damaged" in done.err
    assert "--ledger" in done.err


@pytest.mark.parametrize("command", [("stats",), ("export",), ("prune", "--model", "m"), ("verify",)])
class TestWrongFiles:
    def test_none_there(self, command: tuple[str, ...], prefgen: Runner, tmp_path: Path) -> None:
        done = prefgen("ledger", *command, "--ledger", tmp_path / "none")
        assert done.code == 2
        assert "no ledger there" in done.err
        assert not (tmp_path / "none").exists()

    def test_not_a_ledger(self, command: tuple[str, ...], prefgen: Runner, tmp_path: Path) -> None:
        path = tmp_path / "notes"
        path.write_text("my notes " * 200)
        done = prefgen("ledger", *command, "--ledger", path)
        assert done.code == 2
        assert "not a database" in done.err
        assert path.read_text() == "my notes " * 200

    def test_of_something_else(self, command: tuple[str, ...], prefgen: Runner, tmp_path: Path) -> None:
        change(tmp_path / "songs", "CREATE TABLE songs (title TEXT)")
        done = prefgen("ledger", *command, "--ledger", tmp_path / "songs")
        assert done.code == 2
        assert "not a ledger" in done.err

    def test_of_a_later_prefgen(self, command: tuple[str, ...], prefgen: Runner, tmp_path: Path) -> None:
        change(filled(tmp_path / "l"), f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        done = prefgen("ledger", *command, "--ledger", tmp_path / "l")
        assert done.code == 2
        assert "upgrade prefgen" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("export", "--since", "yesterday"), "--since 'yesterday': expected a date"),
        (("export", "--json"), "name a file with --out"),
        (("export", "--model", "m/none"), "the ledger holds m/one, m/score"),
        (("prune",), "give --older-than, --model or both"),
        (("prune", "--older-than", "99999999w"), "expected a date"),
        (("prune", "--model", "m/none"), "none of its answers are here"),
    ],
)
def test_wrong_options(options: tuple[str, ...], said: str, prefgen: Runner, tmp_path: Path) -> None:
    done = prefgen("ledger", *options, "--ledger", filled(tmp_path / "l"))
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_repaired_ledger_is_asked_for_what_is_missing_and_no_more(prefgen: Runner, tmp_path: Path) -> None:
    path = tmp_path / "l"
    command = (
        "generate",
        some_prompts(tmp_path / "p.jsonl", 3),
        *FAKES,
        "--n",
        2,
        "--ledger",
        path,
        "--json",
    )
    assert prefgen(*command, "--out", tmp_path / "first").code == 0
    change(path, "UPDATE answers SET value = x'00' WHERE rowid IN (2, 9)")
    stopped = prefgen(*command, "--out", tmp_path / "second")
    assert stopped.code == 2
    assert "prefgen ledger verify --repair" in stopped.err
    assert prefgen("ledger", "verify", "--ledger", path, "--repair").code == 0
    done = prefgen(*command, "--out", tmp_path / "second", "--resume")
    assert done.code == 0
    assert 1 <= done.result["usage"]["requests"] <= 2

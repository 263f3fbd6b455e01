"""`prefgen revise`: its tables, what other commands make of them, resuming and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page import Page
from running import Runner, files, rows, some_prompts, write_prompts

from prefgen.completion import Completion, CompletionRequest
from prefgen.errors import RequestRefusedError
from prefgen.models.scripted import ScriptedModel, open_scripted
from trainers.rows import parse_demonstration, read_rows

WRITER = ("--policy", "scripted/writer")
TABLES = {"pairs.parquet", "rounds.parquet", "sft.parquet"}
MADE = TABLES | {"config.yaml", "manifest.json", "report.html", "run.json", ".lock"}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return some_prompts(tmp_path / "p.jsonl", 20)


def test_what_it_writes(tmp_path: Path, prompts: Path, prefgen: Runner) -> None:
    out = tmp_path / "run"
    done = prefgen("revise", prompts, *WRITER, "--rounds", 3, "--out", out, "--json")
    assert done.code == 0, done.err
    assert files(out) <= MADE
    counts, rounds = done.result["counts"], rows(out / "rounds.parquet")
    assert done.result == json.loads((out / "manifest.json").read_text())
    assert (counts["prompts"], len(rounds), counts["rounds"]) == (20, 80, 60)
    assert [row["round"] for row in rounds[:5]] == [0, 1, 2, 3, 0]
    usable = {row["prompt_id"] for row in rounds if row["stopped"] is None}
    last = {row["prompt_id"]: row["text"] for row in rounds if row["round"] == 3}
    first = {row["prompt_id"]: row["text"] for row in rounds if row["round"] == 0}
    sft, pairs = rows(out / "sft.parquet"), rows(out / "pairs.parquet")
    assert counts["sft_rows"] == counts["pairs"] == len(sft) == len(pairs) == len(usable) > 0
    assert counts["dropped"] == ({"unchanged": 20 - len(usable)} if len(usable) < 20 else {})
    for row in sft:
        assert row["completion"] == [{"role": "assistant", "content": last[row["prompt_id"]]}]
    for row in pairs:
        other = {"a": "b", "b": "a"}[row["revision"]]
        assert row[f"response_{row['revision']}"] == last[row["id"]]
        assert row[f"response_{other}"] == first[row["id"]]
    assert {row["revision"] for row in pairs} == {"a", "b"}


def test_its_pairs_are_judged_and_its_demonstrations_read_like_any_other(
    tmp_path: Path, prompts: Path, prefgen: Runner
) -> None:
    out, verdicts = tmp_path / "run", tmp_path / "v.jsonl"
    prefgen("revise", prompts, *WRITER, "--out", out)
    done = prefgen("judge", out / "pairs.parquet", "--judge", "scripted/judge", "--out", verdicts, "--json")
    assert done.code == 0, done.err
    pairs = rows(out / "pairs.parquet")
    assert done.result["n"] == len(pairs)
    told = {row["id"]: row for row in map(json.loads, verdicts.read_text().splitlines())}
    assert set(told) == {row["id"] for row in pairs}
    sft = read_rows(out / "sft.parquet", parse_demonstration, as_chat=False)
    assert len(sft) == len(pairs)
    assert all(row.conversational for row in sft)


def test_a_used_directory_and_resuming(tmp_path: Path, prompts: Path, prefgen: Runner) -> None:
    out = tmp_path / "run"
    command = ("revise", prompts, *WRITER, "--out", out, "--rounds", 2)
    stopped = prefgen(*command, "--max-requests", 30)
    assert stopped.code == 4
    assert not (out / "manifest.json").exists()
    assert not (out / "sft.parquet").exists()
    assert prefgen(*command).code == 2
    changed = prefgen(*command, "--resume", "--temperature", 0.5)
    assert changed.code == 2
    assert "temperature: was 1.0, now 0.5" in changed.err
    done = prefgen(*command, "--resume", "--json")
    assert done.code == 0, done.err
    fresh = prefgen("revise", prompts, *WRITER, "--rounds", 2, "--json", "--out", tmp_path / "other")
    assert done.result["usage"]["requests"] <= 100
    assert fresh.result["usage"]["requests"] == 0
    for name in ("rounds", "sft", "pairs"):
        assert rows(out / f"{name}.parquet") == rows(tmp_path / "other" / f"{name}.parquet")
    again = prefgen(*command, "--resume", "--json")
    assert again.result == done.result
    assert "nothing is owed" in again.err
    assert prefgen(*command, "--overwrite").code == 0


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While the list holds True, critiques of prompts that name order 37 fail."""
    on = [True]
    writer = open_scripted("writer")

    def answer(request: CompletionRequest, sample: int) -> str | Completion | Exception:
        text = request.messages[-1].content
        if on[0] and "You criticise" in text and "Customer 37 " in text:
            return RequestRefusedError("400: no")
        return writer._answer(request, sample)

    model = ScriptedModel(answer, "scripted/writer")
    monkeypatch.setattr("prefgen.models.scripted.open_scripted", lambda name, options=None: model)
    return on


def test_failed_calls_are_gated_and_asked_again(
    tmp_path: Path, prompts: Path, prefgen: Runner, failing: list[bool]
) -> None:
    out = tmp_path / "run"
    command = ("revise", prompts, *WRITER, "--out", out, "--rounds", 1)
    refused = prefgen(*command, "--max-failure-share", 0)
    assert refused.code == 3
    assert "1 of 20 prompts ended in a failed call" in refused.err
    assert "api_error 1" in refused.err
    assert not (out / "manifest.json").exists()
    assert [row["stopped"] for row in rows(out / "rounds.parquet")].count("api_error") == 1
    allowed = prefgen(*command, "--resume", "--json")
    assert (allowed.code, allowed.result["counts"]["failures"]) == (0, {"api_error": 1})
    failing[0] = False
    done = prefgen(*command, "--resume", "--json")
    asked = done.result["usage"]["requests"] - allowed.result["usage"]["requests"]
    assert (done.result["counts"]["failures"], asked) == ({}, 2)


def test_it_is_no_run_of_judged_candidates(tmp_path: Path, prompts: Path, prefgen: Runner) -> None:
    out = tmp_path / "run"
    prefgen("revise", prompts, *WRITER, "--out", out)
    refused = prefgen("pair", out, "--out", "x")
    assert refused.code == 2
    assert "not a run directory" in refused.err


def test_its_page_shows_what_became_of_the_responses(tmp_path: Path, prompts: Path, prefgen: Runner) -> None:
    out = tmp_path / "run"
    done = prefgen("revise", prompts, *WRITER, "--out", out, "--rounds", 2, "--json")
    page = Page((out / "report.html").read_text())
    (out / "report.html").unlink()
    assert prefgen("report", out, "--json").result == done.result
    assert (out / "report.html").read_text() == page.source
    table = rows(out / "rounds.parquet")
    first, last = table[0], table[2]
    assert "20 revised responses to 20 prompts" in page.words
    assert f"Response {first['text']} Critique" in page.words
    assert f"Round 2, by {last['principle']} {last['text']}" in page.words
    asked = sum(row["principle"] == last["principle"] for row in table)
    assert f"{last['principle']} {asked}" in page.words


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--policy", "gpt"), "gpt"),
        ((*WRITER, "--critic", "nobody/x"), "nobody"),
        ((*WRITER, "--constitution", "none"), "no such constitution"),
        ((*WRITER, "--rounds", "0"), "--rounds"),
        ((*WRITER, "--temperature", "nan"), "--temperature"),
        ((), "missing --policy"),
    ],
)
def test_bad_options(
    arguments: tuple[str, ...], told: str, tmp_path: Path, prompts: Path, prefgen: Runner
) -> None:
    done = prefgen("revise", prompts, *arguments, "--out", tmp_path / "run")
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "run").exists()


def test_a_bad_prompt_is_found_before_a_call(tmp_path: Path, prefgen: Runner) -> None:
    bad = write_prompts(tmp_path / "bad.jsonl", [{"prompt": "fine"}, {"prompt": 3}])
    done = prefgen("revise", bad, *WRITER, "--out", tmp_path / "run")
    assert done.code == 2
    assert "bad.jsonl:2" in done.err

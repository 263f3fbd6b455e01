"""`prefgen convert`, with rows as they really come."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import Runner, write_prompts

from trainers.rows import parse_labelled, parse_pair, read_rows


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def thumbs(values: Sequence[object]) -> list[dict[str, Any]]:
    return [{"prompt": f"p{n}", "response": f"r{n}", "thumbs": value} for n, value in enumerate(values)]


def test_thumbs_become_labels_and_nothing_is_lost(run: Runner, tmp_path: Path) -> None:
    rows = thumbs(["up", "👎", None, 1, -1, 0, "sideways"])
    rows.append({"prompt": "", "response": "r", "thumbs": "up"})
    file, out = write_prompts(tmp_path / "f.jsonl", rows), tmp_path / "kto.jsonl"
    done = run("convert", file, "--to", "kto", "--out", out, "--max-failed", 0.5, "--json")
    assert done.code == 0, done.err
    assert [(row["completion"], row["label"]) for row in lines(out)] == [
        (answer("r0"), True), (answer("r1"), False), (answer("r3"), True), (answer("r4"), False),
    ]  # fmt: skip
    result = done.result
    assert {name: result[name] for name in ("rows", "written", "desirable", "undesirable", "failed")} == {
        "rows": 8, "written": 4, "desirable": 2, "undesirable": 2, "failed": 2,
    }  # fmt: skip
    assert result["dropped"] == {"neutral or no opinion": 2}
    left = lines(Path(result["rejected"]))
    assert [(row["line"], row["status"]) for row in left] == [
        (3, "dropped"), (6, "dropped"), (7, "failed"), (8, "failed"),
    ]  # fmt: skip
    assert left[2]["row"] == rows[6]
    assert f"{file}:7: thumbs 'sideways' is not a known opinion" in done.err
    assert f"{file}:8: the prompt is empty" in done.err
    assert [row.label for row in read_rows(out, parse_labelled, False)] == [True, False, True, False]


def test_ratings_need_limits_and_the_message_says_the_range(run: Runner, tmp_path: Path) -> None:
    with (tmp_path / "stars.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["prompt", "response", "rating"], ["p", 'say "hi",\nthen go', 5], ["p", "<b>no</b>", 1]]
        )
        writer.writerow(["p", "so so", 3])
    arguments = ("convert", tmp_path / "stars.csv", "--to", "kto", "--out", tmp_path / "o.parquet")
    asked = run(*arguments)
    assert asked.code == 2
    assert "its ratings run from 1 to 5" in asked.err
    assert "--good-from 5 --bad-to 1" in asked.err
    assert not list(tmp_path.glob("o.*"))
    done = run(*arguments, "--good-from", 4, "--bad-to", 2, "--format", "standard", "--json")
    assert pq.read_table(tmp_path / "o.parquet").to_pylist() == [
        {"prompt": "p", "completion": 'say "hi",\nthen go', "label": True},
        {"prompt": "p", "completion": "<b>no</b>", "label": False},
    ]
    assert done.result["dropped"] == {"neutral or no opinion": 1}


def test_what_a_zero_means_is_asked_where_it_cannot_be_known(run: Runner, tmp_path: Path) -> None:
    arguments = ("convert", write_prompts(tmp_path / "f.jsonl", thumbs([1, 0])), "--to", "kto")
    asked = run(*arguments, "--out", tmp_path / "o.jsonl")
    assert asked.code == 2
    assert "--zero bad or --zero neutral" in asked.err
    assert (
        run(*arguments, "--out", tmp_path / "o.jsonl", "--zero", "bad", "--json").result["undesirable"] == 1
    )
    left = run(*arguments, "--out", tmp_path / "n.jsonl", "--zero", "neutral")
    assert "all labels are the same: prefgen train kto needs both kinds" in left.out


SENT = [
    {"prompt": "p0", "sent": "better", "draft": "draft"},
    {"prompt": "p1", "sent": "as drafted", "draft": "as drafted "},
]


def test_what_was_sent_as_drafted_is_good_and_no_pair(run: Runner, tmp_path: Path) -> None:
    file = write_prompts(tmp_path / "f.jsonl", SENT)
    run("convert", file, "--to", "kto", "--out", tmp_path / "kto.jsonl", "--format", "standard")
    assert [(row["completion"], row["label"]) for row in lines(tmp_path / "kto.jsonl")] == [
        ("better", True), ("draft", False), ("as drafted", True),
    ]  # fmt: skip
    done = run("convert", file, "--to", "dpo", "--out", tmp_path / "dpo.jsonl")
    assert lines(tmp_path / "dpo.jsonl") == [
        {
            "prompt": [{"role": "user", "content": "p0"}],
            "chosen": answer("better"),
            "rejected": answer("draft"),
        }
    ]
    assert "left out: 1 sent as drafted" in done.out


HH = [
    {"chosen": "\n\nHuman: hi\n\nAssistant: a\n\nHuman: more\n\nAssistant: good",
     "rejected": "\r\n\r\nHuman: hi\r\n\r\nAssistant: a\r\n\r\nHuman: more\r\n\r\nAssistant: bad"},
    {"chosen": "\n\nHuman: x\n\nAssistant: a", "rejected": "\n\nHuman: y\n\nAssistant: a"},
    {"chosen": "\n\nHuman: x\n\nAssistant: a\n\nHuman: bye", "rejected": "\n\nHuman: x\n\nAssistant: b"},
    {"chosen": "\n\nHuman: x\n\nAssistant: a", "rejected": "\n\nHuman: x\n\nAssistant: a"},
]  # fmt: skip


@pytest.mark.parametrize("to", ["dpo", "reward", "kto"])
def test_transcripts(to: str, run: Runner, tmp_path: Path) -> None:
    file = write_prompts(tmp_path / "hh.jsonl", HH)
    refused = run("convert", file, "--to", to, "--out", tmp_path / "o.parquet")
    assert refused.code == 3
    assert "3 of 4 rows could not be used (allowed: 5%)" in refused.err
    for number, why in ((2, "share no beginning"), (3, "ends with Human"), (4, "are the same")):
        assert f"{file}:{number}: " in refused.err
        assert why in refused.err
    assert not (tmp_path / "o.parquet").exists()
    assert len(lines(tmp_path / "o.parquet.rejected.jsonl")) == 3
    done = run("convert", file, "--to", to, "--out", tmp_path / "o.parquet", "--max-failed", 1)
    assert done.code == 0
    rows = read_rows(tmp_path / "o.parquet", parse_labelled if to == "kto" else parse_pair, False)
    assert [[turn.content for turn in row.prompt] for row in rows] == [["hi", "a", "more"]] * len(rows)  # type: ignore[union-attr]
    assert len(rows) == (2 if to == "kto" else 1)


def test_there_and_back_between_the_stages(run: Runner, tmp_path: Path) -> None:
    pairs = [
        {"prompt": f"p{n}", "chosen": f" good {n}", "rejected": f" bad {n}", "margin": 0.5 + n}
        for n in range(3)
    ]
    file = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(pairs), file)
    standard = ("--format", "standard")
    run("convert", file, "--to", "reward", "--out", tmp_path / "reward.jsonl", *standard)
    assert lines(tmp_path / "reward.jsonl") == pairs
    run("convert", file, "--to", "kto", "--out", tmp_path / "kto.jsonl", *standard)
    assert len(lines(tmp_path / "kto.jsonl")) == 6
    run("convert", tmp_path / "kto.jsonl", "--to", "dpo", "--out", tmp_path / "dpo.jsonl", *standard)
    assert lines(tmp_path / "dpo.jsonl") == [{k: v for k, v in row.items() if k != "margin"} for row in pairs]


def test_ratings_without_a_counterpart_are_counted(run: Runner, tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "response": "a", "label": True},
        {"prompt": "p", "response": "b", "label": False},
        {"prompt": "q", "response": "c", "label": True},
    ]
    done = run(
        "convert",
        write_prompts(tmp_path / "f.jsonl", rows),
        "--to",
        "dpo",
        "--out",
        tmp_path / "o.jsonl",
        "--json",
    )
    assert (done.result["written"], done.result["failed"]) == (1, 0)
    assert done.result["dropped"] == {"no counterpart for the prompt": 1}


def test_a_completion_of_several_turns_is_no_plain_string(run: Runner, tmp_path: Path) -> None:
    row = {
        "chosen": "\n\nHuman: x\n\nAssistant: a\n\nHuman: y\n\nAssistant: b",
        "rejected": "\n\nHuman: x\n\nAssistant: c",
    }
    file = write_prompts(tmp_path / "hh.jsonl", [row])
    assert run("convert", file, "--to", "dpo", "--out", tmp_path / "o.jsonl").code == 0
    done = run("convert", file, "--to", "dpo", "--out", tmp_path / "s.jsonl", "--format", "standard")
    assert done.code == 3
    assert "--format conversational" in done.err


def test_a_file_of_which_nothing_is_left_says_so_in_whole_words(run: Runner, tmp_path: Path) -> None:
    row = {"prompt": "p", "completions": [{"response": "a", "overall_score": 8}, {"response": "b"}]}
    file = write_prompts(tmp_path / "u.jsonl", [row])
    done = run("convert", file, "--to", "dpo", "--out", tmp_path / "o.jsonl", "--max-failed", 1)
    assert "no row is left for dpo: 1 of 1 rows could not be used; see" in done.err


def test_a_file_without_a_usable_row_leaves_nothing_but_the_list(run: Runner, tmp_path: Path) -> None:
    file = write_prompts(tmp_path / "f.jsonl", thumbs([None, None]))
    done = run("convert", file, "--to", "kto", "--out", tmp_path / "o.jsonl")
    assert done.code == 3
    assert "no row is left for kto" in done.err
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"question": "p", "reply": "r"}], (), "no row has the columns of any known form"),
        (thumbs(["up"]), ("--out", "kto.csv"), "ends with .jsonl or .parquet"),
        (thumbs(["up"]), ("--out", "f.jsonl"), "is the file that is read"),
        (thumbs(["up"]), ("--good-from", "2", "--bad-to", "3"), "a rating is not both"),
        (thumbs(["up"]), ("--to", "sft"), "'sft' is not one of"),
        (thumbs(["up"]), ("--out", "there.jsonl"), "exists already"),
        (thumbs(["up"]), ("--max-failed", "2"), "--max-failed"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    rows: list[dict[str, Any]],
    options: tuple[str, ...],
    message: str,
    run: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_prompts(tmp_path / "f.jsonl", rows)
    (tmp_path / "there.jsonl").write_text("mine")
    done = run("convert", "f.jsonl", "--to", "kto", "--out", "o.jsonl", *options)
    assert done.code == 2
    assert message in done.err
    assert {path.name for path in tmp_path.glob("*.*")} <= {"f.jsonl", "there.jsonl"}
    assert (tmp_path / "there.jsonl").read_text() == "mine"


RATINGS = st.sampled_from([1, 2, 3, "4", "5.0", None, "N/A", "nan", True])


def list_row(number: int, ratings: list[object]) -> dict[str, Any]:
    texts = [f"{number}.{place}" for place in range(len(ratings))]
    return {"instruction": f"p{number}", "generations": texts, "ratings": ratings}


@pytest.mark.parametrize("to", ["dpo", "kto"])
def test_every_row_of_a_rated_list_gives_rows_or_a_reason(
    to: str, run: Runner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.lists(RATINGS, min_size=1, max_size=4), min_size=1, max_size=5))
    def check(ratings: list[list[object]]) -> None:
        folder = tmp_path_factory.mktemp("lists")
        given_rows = [list_row(number, each) for number, each in enumerate(ratings)]
        file = write_prompts(folder / "f.jsonl", given_rows)
        limits = ("--good-from", 4, "--bad-to", 2)
        done = run(
            "convert", file, "--to", to, "--out", folder / "o.jsonl", "--max-failed", 1, "--json", *limits
        )
        rejected = folder / "o.jsonl.rejected.jsonl"
        left = {row["line"] for row in lines(rejected)} if rejected.exists() else set()
        used = (
            {int(row["prompt"][0]["content"][1:]) + 1 for row in lines(folder / "o.jsonl")}
            if done.code == 0
            else set()
        )
        assert used | left == set(range(1, len(ratings) + 1))
        assert not used & left
        assert done.code == (0 if used else 3)

    check()


def test_ultrafeedback_is_recognised_and_counted(run: Runner, tmp_path: Path) -> None:
    rows = [list_row(0, [1, 5, 3]), list_row(1, [3, 3]), list_row(2, [4, "N/A"]), list_row(3, [4, 4.4])]
    file = write_prompts(tmp_path / "uf.jsonl", rows)
    arguments = ("convert", file, "--to", "dpo", "--out", tmp_path / "o.jsonl", "--max-failed", 0.5)
    dry = run(*arguments, "--dry-run")
    assert dry.code == 0
    assert "recognised: 4 as lists of rated responses" in dry.out
    assert 'the first: {"prompt": [{"role": "user", "content": "p0"}]' in dry.out
    assert {path.name for path in tmp_path.glob("*.jsonl*")} == {"uf.jsonl"}
    done = run(*arguments, "--min-gap", 0.5, "--json")
    assert [(row["chosen"], row["rejected"]) for row in lines(tmp_path / "o.jsonl")] == [
        (answer("0.1"), answer("0.0"))
    ]
    assert (done.result["failed"], done.result["dropped"]) == (1, {"tie": 2})
    assert f"{file}:3: ratings, number 2 is not a number: 'N/A'" in done.err
    every = run(*arguments, "--pair-by", "all", "--overwrite", "--json")
    assert every.result["written"] == 4


def test_many_failed_rows_are_told_in_short_and_listed_unless_it_is_a_dry_run(
    run: Runner, tmp_path: Path
) -> None:
    rows = [list_row(number, [1, 5] if number < 5 else [1, "N/A"]) for number in range(30)]
    file = write_prompts(tmp_path / "uf.jsonl", rows)
    arguments = ("convert", file, "--to", "dpo", "--out", tmp_path / "o.jsonl", "--max-failed", 0.9)
    dry = run(*arguments, "--dry-run")
    assert "and 5 more rows\n" in dry.err
    assert "rejected" not in dry.err
    done = run(*arguments)
    assert f"and 5 more rows; all of them are in {tmp_path / 'o.jsonl.rejected.jsonl'}" in done.err.replace(
        "\n", " "
    )
    assert len(lines(tmp_path / "o.jsonl.rejected.jsonl")) == 25


def test_a_rated_list_needs_limits_for_kto_and_a_ranked_one_does_not(run: Runner, tmp_path: Path) -> None:
    file = write_prompts(tmp_path / "uf.jsonl", [list_row(0, [1, 5, 3])])
    arguments = ("--to", "kto", "--out", tmp_path / "o.jsonl", "--format", "standard")
    asked = run("convert", file, *arguments)
    assert asked.code == 2
    assert "its ratings run from 1 to 5" in asked.err
    assert run("convert", file, *arguments, "--good-from", 4, "--bad-to", 2).code == 0
    assert [(row["completion"], row["label"]) for row in lines(tmp_path / "o.jsonl")] == [
        ("0.0", False),
        ("0.1", True),
    ]
    ranks = [{"answer": text, "rank": rank} for rank, text in enumerate("abc", start=1)]
    ranked = write_prompts(tmp_path / "nectar.jsonl", [{"prompt": "p", "answers": ranks}])
    assert run("convert", ranked, *arguments, "--overwrite").code == 0
    assert [(row["completion"], row["label"]) for row in lines(tmp_path / "o.jsonl")] == [
        ("a", True),
        ("c", False),
    ]

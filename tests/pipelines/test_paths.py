"""Names in a user's files never become paths: whatever an id says, a run writes its usual files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import FAKES, Runner, files, rows, some_prompts, write_prompts

from prefgen.errors import InputError
from prefgen.models.ensemble import FILE, find_ensemble

IDS = (
    "../../../outside",
    "/tmp/outside",
    "..",
    ".",
    "~/outside",
    "C:\\outside",
    "\\\\server\\share\\x",
    "CON",
    "nul.txt",
    "x" * 5000,
    "a/b/c",
    "a%2f..%2fb",
    "$(touch outside)",
    "`touch outside`",
    "-rf",
    "file://outside",
    "é" * 300,
)


def test_ids_with_the_parts_of_a_path_are_text(
    tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    texts = [f"Customer {n * 37} writes about a late parcel of kind {n}: what now?" for n in range(len(IDS))]
    plain = write_prompts(tmp_path / "plain.jsonl", ({"prompt": text} for text in texts))
    wild = write_prompts(
        tmp_path / "wild.jsonl", ({"id": i, "prompt": t} for i, t in zip(IDS, texts, strict=True))
    )
    for prompts, out in ((plain, "a"), (wild, "b")):
        ran = prefgen("generate", prompts, *FAKES, "--out", out)
        assert ran.code == 0, ran.err
        assert prefgen("audit", out).code == 0
    assert files(home / "a") == files(home / "b")
    assert {row["prompt_id"] for row in rows(home / "b" / "candidates.parquet")} == set(IDS)
    assert {path.name for path in home.iterdir()} == {"a", "b"}
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/outside").exists()


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x1b[2Jx", "a\u202eb", "", "  "])
def test_ids_that_no_table_should_show_are_refused(tmp_path: Path, name: str, prefgen: Runner) -> None:
    prompts = write_prompts(tmp_path / "p.jsonl", [{"id": name, "prompt": "hello"}])
    ran = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "out")
    assert ran.code == 2
    assert f"{prompts}:1" in ran.err
    labels = write_prompts(
        tmp_path / "l.jsonl",
        [{"id": name, "prompt": "p", "response_a": "x", "response_b": "y", "label": "a"}],
    )
    ran = prefgen("calibrate", labels, "--judge", "scripted/judge", "--out", tmp_path / "c")
    assert ran.code == 2
    assert f"{labels}:1" in ran.err


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "a\\b", "Nul:", "a b", ""])
def test_principles_with_the_parts_of_a_path_are_refused(tmp_path: Path, name: str, prefgen: Runner) -> None:
    constitution = tmp_path / "c.yaml"
    constitution.write_text(json.dumps({"id": "c", "principles": [{"id": name, "text": "Be kind."}]}))
    prompts = some_prompts(tmp_path / "p.jsonl")
    ran = prefgen("generate", prompts, *FAKES, "--constitution", constitution, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "principles.0.id" in ran.err


@pytest.mark.parametrize("path", ["../elsewhere", "/abs", "a/../../b", ".", "..", "", "~/x", "a//b", "a\0b"])
def test_an_ensemble_leads_to_no_folder_but_its_own(tmp_path: Path, path: str) -> None:
    members = [
        {"path": name, "seed": n, "mean": 0.0, "std": 1.0, "n": 9} for n, name in enumerate(("m", path))
    ]
    (tmp_path / FILE).write_text(json.dumps({"scale_from": "training", "members": members}))
    with pytest.raises(InputError, match=r"members\.1\.path"):
        find_ensemble(str(tmp_path))
    members[1]["path"] = "member-2"
    (tmp_path / FILE).write_text(json.dumps({"scale_from": "training", "members": members}))
    assert find_ensemble(str(tmp_path)) is not None


def test_no_csv_is_written(tmp_path: Path, prefgen: Runner) -> None:
    """A spreadsheet would run a cell that begins with = + - @. Whoever adds CSV has to close that first."""
    feedback = write_prompts(tmp_path / "f.jsonl", [{"prompt": "p", "response": "r", "label": True}])
    assert prefgen("convert", feedback, "--to", "kto", "--out", tmp_path / "x.csv").code == 2
    root = Path(__file__).resolve().parents[2]
    for tree in ("prefgen", "judges", "trainers", "pipelines"):
        for path in (root / tree).rglob("*.py"):
            source = path.read_text("utf-8")
            assert not [
                word for word in ("csv.writer", "DictWriter", "to_csv(", "write_csv(") if word in source
            ], path

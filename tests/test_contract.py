"""docs/contract.md says what commands, tables and JSON files there are: held against those that are made."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pages import ROOT, Provider, blocks_of, run

from pipelines.cli import COMMANDS
from pipelines.report.words import LOST
from pipelines.why.story_words import REASONS
from prefgen import pairing, tables
from prefgen.rows import CarriedColumns, dpo_schema, kto_schema

PAGE = ROOT / "docs" / "contract.md"
TEXT = PAGE.read_text("utf-8")
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)}
Keys = dict[str, "Keys | None"]
"""A key whose keys are not told has None. One in capitals stands for keys that the data decides."""


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def keys_of(heading: str) -> Keys:
    """The keys in the block under a heading, with theirs in braces; what follows two spaces is prose."""
    block = next(one for one in blocks_of(PAGE) if f"# {heading}" in one.before and one.language == "text")
    bare = " ".join(re.split(r"(?<=\S) {2,}", line)[0] for line in block.text.splitlines())
    tokens = iter(re.findall(r"\w+|[{}]", bare))
    return _keys(tokens)


def _keys(tokens: Iterator[str]) -> Keys:
    found: Keys = {}
    last = ""
    for token in tokens:
        if token == "}":
            break
        if token == "{":
            found[last] = _keys(tokens)
        else:
            last = token
            assert last not in found, f"{last} stands twice"
            found[last] = None
    return found


def check(told: Keys, made: Mapping[str, Any], where: str) -> None:
    free = next((name for name in told if name.isupper()), None)
    if free is None:
        assert set(told) == set(made), where
    else:
        told = dict.fromkeys(made, told[free])
    assert made, where
    for name, inner in told.items():
        if inner is not None and made[name] is not None:
            check(inner, made[name], f"{where}.{name}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/first`, calibrated by `calibrations/first`, and `evals/new`."""
    path, store = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("PREFGEN_LEDGER", str(path / "ledger.sqlite"))
        Provider(store).provide(["prompts.jsonl", "labels.jsonl"])
        judge = "--judge scripted/judge --principles each --quiet"
        sides = "--model scripted/writer --baseline scripted/hasty"
        for line in (
            f"calibrate labels.jsonl {judge} --out calibrations/first",
            f"generate prompts.jsonl --policy scripted/writer --n 3 {judge} --out runs/first"
            " --calibration calibrations/first/calibration.json --target-precision 0.8",
            f"evaluate prompts.jsonl {sides} {judge} --out evals/new",
        ):
            run(line.split())
    return path


def test_every_command_has_its_line() -> None:
    assert {f"`prefgen {name}`" for name in COMMANDS} == {
        cell for cell in ROWS if cell.startswith("`prefgen ")
    }


@pytest.mark.parametrize("name", ["candidates", "judgments", "scores", "undecided"])
def test_tables_have_the_columns_of_their_schema(name: str) -> None:
    schema = getattr(tables, name.upper())
    assert names(ROWS[f"`{name}.parquet`"][0]) == schema.names


def test_datasets_have_the_columns_of_their_schema() -> None:
    for name, schema in (("dpo", dpo_schema), ("kto", kto_schema)):
        (cell,) = ROWS[f"`{name}/train.parquet`, `{name}/test.parquet`"]
        assert names(cell) == schema("conversational", CarriedColumns()).names


def test_a_run_directory_has_these_files_and_columns(made: Path) -> None:
    told = {
        file for cell in ROWS for file in names(cell) if re.search(r"\.(parquet|yaml|md|html|json)$", file)
    }
    told.discard("--config FILE.yaml")
    run = made / "runs" / "first"
    assert told == {str(path.relative_to(run)) for path in run.rglob("[!.]*") if path.is_file()}
    for path in run.glob("*.parquet"):
        assert names(ROWS[f"`{path.name}`"][0]) == pq.read_schema(path).names


@pytest.mark.parametrize(
    ("heading", "file"),
    [
        ("manifest.json", "runs/first/manifest.json"),
        ("calibration.json", "calibrations/first/calibration.json"),
        ("evaluation.json", "evals/new/evaluation.json"),
    ],
)
def test_json_files_have_these_keys(made: Path, heading: str, file: str) -> None:
    check(keys_of(heading), json.loads((made / file).read_text("utf-8")), heading)


def test_a_key_that_is_not_told_or_not_made_is_noticed() -> None:
    told = keys_of("evaluation.json")
    made: dict[str, Any] = {name: dict.fromkeys(inner, 0) if inner else 0 for name, inner in told.items()}
    check(told, made, "evaluation.json")
    with pytest.raises(AssertionError):
        check(told, made | {"new": 0}, "evaluation.json")
    del made["power"]["difference"]
    with pytest.raises(AssertionError, match="power"):
        check(told, made, "evaluation.json")


def test_every_reason_to_drop_a_pair_has_its_line() -> None:
    source = inspect.getsource(pairing._objection)
    reasons = set(re.findall(r'(?:return|else) "(\w+)"', source))
    reasons |= set(re.findall(r'dropped\["(\w+)"\]', inspect.getsource(pairing.pair_up)))
    page = (ROOT / "docs" / "pairing.md").read_text("utf-8")
    told = page.partition("| dropped as |")[2].partition("\n\n")[0]
    told_here = {name for row in told.splitlines()[2:] for name in names(row.split("|")[1])}
    assert told_here == reasons - {"fewer_than_two_candidates"}
    assert told_here <= set(REASONS) & set(LOST)


def test_exit_codes_are_those_of_the_errors() -> None:
    from prefgen.errors import BudgetError, GateError, UsageError

    codes = {row for row in ROWS if re.fullmatch(r"\d+", row)}
    assert codes == {"0", "130", *(str(kind.exit_code) for kind in (UsageError, GateError, BudgetError))}

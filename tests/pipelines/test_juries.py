"""Several judges on the command line: juries, stacked juries, cascades."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from people import chance, labelled_run
from running import Runner, rows, some_prompts, write_prompts

from pipelines.report.findings import find
from prefgen.run import RunDirectory

WRITER = ("--policy", "scripted/writer", "--n", 4)
TWO = ("--judge", "scripted/hasty", "--judge", "scripted/judge")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prompts, and labels of pairs of their responses."""
    return labelled_run(tmp_path_factory.mktemp("juries"), 500)


def test_a_jury_is_recorded_judge_by_judge(tmp_path: Path, prefgen: Runner) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 10)
    out = tmp_path / "run"
    ran = prefgen(
        "generate", prompts, *WRITER, *TWO, "--combine", "median", "--planted", 0, "--out", out, "--json"
    )
    assert ran.code == 0, ran.err
    judges = [row["judge"] for row in rows(out / "judgments.parquet")]
    assert judges.count("scripted/hasty") == judges.count("scripted/judge") > 0
    assert ran.result["models"]["judge_2"]["spec"] == "scripted/judge"
    said = {
        (row["a_id"], row["b_id"], row["judge"], row["order"]): row["log_odds"]
        for row in rows(out / "judgments.parquet")
    }
    for row in rows(out / "dpo" / "train.parquet"):
        ids = (row["chosen_id"], row["rejected_id"])
        odds = [
            sign * value
            for (a, b, _, _), value in said.items()
            for sign, pair in ((1, ids), (-1, ids[::-1]))
            if (a, b) == pair
        ]
        assert len(odds) == 4
        assert row["margin"] == pytest.approx(sum(odds) / 4)  # The median of two is their mean.
    again = prefgen("pair", out, "--out", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    assert rows(tmp_path / "again" / "dpo" / "train.parquet") == rows(out / "dpo" / "train.parquet")


def test_stacking_finds_the_better_judge(labelled: Path, prefgen: Runner) -> None:
    command = ("calibrate", labelled / "l.jsonl", *TWO, "--target", 0.8, "--json")
    plain = prefgen(*command, "--out", labelled / "mean").result
    stacked = prefgen(*command, "--combine", "stacked", "--out", labelled / "stacked").result
    weights = {name: told["weight"] for name, told in stacked["jurors"].items()}
    assert weights["scripted/judge"] > 3 * weights["scripted/hasty"]
    assert (
        stacked["probability"]["maps"]["temperature"]["log_loss"]
        < (plain["probability"]["maps"]["temperature"]["log_loss"])
    )
    ran = prefgen(
        "generate", labelled / "p.jsonl", *WRITER, *TWO, "--combine", "stacked", "--out", labelled / "s",
        "--calibration", labelled / "stacked" / "calibration.json", "--target-precision", 0.8, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.result["weighing"]["judges"] == pytest.approx(weights)
    kept = rows(labelled / "s" / "dpo" / "train.parquet")
    true = [chance(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in kept]
    assert sum(true) / len(true) >= 0.8


def test_a_cascade_asks_the_second_judge_only_where_the_first_is_unsure(
    labelled: Path, prefgen: Runner
) -> None:
    ran = prefgen(
        "calibrate", labelled / "l.jsonl", *TWO, "--combine", "cascade", "--target", 0.8,
        "--out", labelled / "c",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = json.loads((labelled / "c" / "calibration.json").read_text())
    first, second = found["cascade"]["stages"]
    assert first["judge"] == "scripted/hasty"
    assert second["n_reached"] == 500 - first["selective"]["n_kept"]
    assert found["selective"]["n_kept"] == sum(
        stage["selective"]["n_kept"] for stage in (first, second) if stage["selective"]
    )
    options = ("--calibration", labelled / "c" / "calibration.json", "--target-precision", 0.8)
    out = labelled / "g"
    ran = prefgen(
        "generate", labelled / "p.jsonl", *WRITER, *TWO, "--combine", "cascade", *options,
        "--test-share", 0, "--out", out, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    counts = ran.result["counts"]
    asked = counts["asked"]["scripted/judge"]
    assert 0 < asked < 0.5 * (counts["pairs"] + counts["unsure"])
    told = [row for row in rows(out / "judgments.parquet") if row["judge"] == "scripted/judge"]
    assert len(told) == 2 * asked
    kept = rows(out / "dpo" / "train.parquet")
    true = [chance(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in kept]
    assert sum(true) / len(true) >= 0.8
    undecided = rows(out / "undecided.parquet")
    assert len(undecided) == counts["unsure"]
    again = prefgen("pair", out, *options, "--test-share", 0, "--out", labelled / "again", "--json")
    assert again.code == 0, again.err
    assert rows(labelled / "again" / "dpo" / "train.parquet") == kept
    assert again.result["counts"]["asked"] == counts["asked"]
    grid = prefgen("pair", out, "--json").result
    (own,) = [row for row in grid["rows"] if row["own"]]
    assert (own["pairs"], own["dropped"]) == (counts["pairs"], counts["dropped"])
    assert own["expected_precision"] == pytest.approx(ran.result["expected_label_precision"])
    assert {row["target_precision"] for row in grid["rows"]} == {0.8}
    refused = prefgen("pair", out, "--min-confidence", 0.9)
    assert (refused.code, "--target-precision" in refused.err) == (2, True)
    story = prefgen("why", out, kept[0]["pair_id"], "--json").result
    assert (story["kept"], story["confidence"]) == (True, kept[0]["confidence"])
    assert [stage["judge"] for stage in story["calibration"]["stages"]] == [
        "scripted/hasty",
        "scripted/judge",
    ]
    story = prefgen("why", out, told[0]["a_id"], told[0]["b_id"], "--json").result
    assert {item["judge"] for item in story["judgments"]} == {"scripted/hasty", "scripted/judge"}
    check_what_the_second_decided(prefgen, out, kept, told)
    # The report calls nothing dropped that the second judge kept, nor the first one's word the verdict.
    page = find(RunDirectory.open(out), ran.result)
    assert sum(page.margins.bins[1].values()) == counts["dropped"]["margin"]
    assert page.judges.names == ["scripted/hasty", "scripted/judge"]
    used = "helpful-honest-harmless"
    refused = prefgen("constitution", "diff", used, used, "--run", out)
    assert (refused.code, "of a cascade" in refused.err) == (2, True)


def check_what_the_second_decided(
    prefgen: Runner, out: Path, kept: list[dict[str, Any]], told: list[dict[str, Any]]
) -> None:
    """Its own margin and map are told, and of the first judge what it said itself."""
    asked = {frozenset((row["a_id"], row["b_id"])) for row in told}
    waiting = (row for row in rows(out / "undecided.parquet") if {row["a_id"], row["b_id"]} in asked)
    pair_id = next(waiting)["id"]
    story = prefgen("why", out, pair_id, "--json").result
    ids = (story["better"], story["worse"])
    said: dict[str, list[float]] = {"scripted/hasty": [], "scripted/judge": []}
    for item in rows(out / "judgments.parquet"):
        for sign, pair in ((1, ids), (-1, ids[::-1])):
            if (item["a_id"], item["b_id"]) == pair:
                said[item["judge"]].append(sign * item["log_odds"])
    first, second = (sum(values) / len(values) for values in said.values())
    assert first != pytest.approx(second)
    assert story["combined"]["decided_by"] == "scripted/judge"
    assert story["margin"] == story["combined"]["margin"] == pytest.approx(second)
    assert [stage["margin"] for stage in story["calibration"]["stages"]] == pytest.approx([first, second])
    shown = prefgen("why", out, pair_id).out
    assert f"cascade: scripted/judge decides, {second:+.3f}" in shown
    sure = next(row for row in kept if {row["chosen_id"], row["rejected_id"]} not in asked)
    assert "scripted/judge: not asked about these two" in prefgen("why", out, sure["pair_id"]).out


def test_what_people_are_to_decide_is_a_pairs_file(tmp_path: Path, prefgen: Runner) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 30)
    ran = prefgen(
        "generate", prompts, *WRITER, "--judge", "scripted/judge", "--min-confidence", 0.999,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "pairs for people to decide" in ran.out
    undecided = tmp_path / "run" / "undecided.parquet"
    assert rows(undecided)
    ran = prefgen("judge", undecided, "--judge", "scripted/judge", "--out", tmp_path / "v.jsonl")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--judge", "scripted/judge", "--judge", "scripted/judge"], ["stands twice", "--votes"]),
        (["--judge", "scripted/judge", "--combine", "median"], ["needs several judges"]),
        ([*TWO, "--combine", "stacked"], ["--calibration"]),
        ([*TWO, "--combine", "cascade"], ["--calibration"]),
        ([*TWO, "--meetings", "knockout"], ["one judge"]),
        (["--judge", "scripted/judge", "--reward-model", "vllm/x"], ["exactly one of"]),
        (["--judge", "scripted/judge", "--judge", "scripted/nobody"], ["scripted/hasty"]),
    ],
)
def test_wrong_combinations(options: list[Any], words: list[str], tmp_path: Path, prefgen: Runner) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    ran = prefgen("generate", prompts, *WRITER, *options, "--out", tmp_path / "run")
    assert ran.code == 2
    assert all(word in ran.err for word in words), ran.err


def test_a_calibration_of_other_judges_or_another_way_is_refused(labelled: Path, prefgen: Runner) -> None:
    ran = prefgen("calibrate", labelled / "l.jsonl", *TWO, "--combine", "cascade", "--out", labelled / "c9")
    assert ran.code == 0, ran.err
    options = ("--calibration", labelled / "c9" / "calibration.json", "--out", labelled / "x")
    ran = prefgen("generate", labelled / "p.jsonl", *WRITER, *TWO, *options)
    assert ran.code == 2
    assert "combine 'mean', calibrated 'cascade'" in ran.err
    ran = prefgen("generate", labelled / "p.jsonl", *WRITER, *TWO, "--combine", "cascade", *options)
    assert ran.code == 2
    assert "--target-precision" in ran.err


def test_recorded_verdicts_of_several_judges_are_combined(labelled: Path, prefgen: Runner) -> None:
    """Stored by `judge`, stacked by `calibrate --verdicts`: as if the judges had been asked."""
    pairs = labelled / "l.jsonl"
    ran = prefgen("judge", pairs, *TWO, "--out", labelled / "v.jsonl")
    assert ran.code == 0, ran.err
    recorded = prefgen(
        "calibrate", pairs, "--verdicts", labelled / "v.jsonl", "--combine", "stacked",
        "--out", labelled / "recorded", "--json",
    )  # fmt: skip
    assert recorded.code == 0, recorded.err
    asked = prefgen("calibrate", pairs, *TWO, "--combine", "stacked", "--out", labelled / "asked", "--json")
    assert recorded.result["jurors"] == asked.result["jurors"]
    options = ("--calibration", labelled / "recorded" / "calibration.json", "--out", labelled / "y")
    others = ("--judge", "scripted/judge", "--judge", "scripted/writer", "--combine", "stacked")
    ran = prefgen("generate", labelled / "p.jsonl", *WRITER, *others, *options)
    assert ran.code == 2
    assert "a calibration of recorded verdicts of another judge" in ran.err
    one = [json.loads(line) for line in (labelled / "v.jsonl").read_text().splitlines()]
    write_prompts(labelled / "one.jsonl", (row for row in one if row["judge"] == "scripted/judge"))
    ran = prefgen(
        "calibrate",
        pairs,
        "--verdicts",
        labelled / "one.jsonl",
        "--combine",
        "median",
        "--out",
        labelled / "z",
    )
    assert ran.code == 2
    assert "several judges" in ran.err


def test_thresholds_of_kto_rows_know_no_calibration(labelled: Path, prefgen: Runner) -> None:
    ran = prefgen(
        "generate", labelled / "p.jsonl", *WRITER, "--judge", "scripted/judge", "--kto-labels", "threshold",
        "--calibration", "c.json", "--out", labelled / "k",
    )  # fmt: skip
    assert ran.code == 2
    assert "--kto-labels threshold" in ran.err


def test_a_stored_jury_is_stacked_by_a_calibration_made_later(labelled: Path, prefgen: Runner) -> None:
    prompts = some_prompts(labelled / "few.jsonl", 40)
    ran = prefgen(
        "generate", prompts, *WRITER, *TWO, "--combine", "median", "--planted", 0, "--out", labelled / "jury"
    )
    assert ran.code == 0, ran.err
    ran = prefgen(
        "calibrate", labelled / "l.jsonl", *TWO, "--combine", "stacked", "--out", labelled / "later", "--json"
    )
    weights = {name: told["weight"] for name, told in ran.result["jurors"].items()}
    calibration = labelled / "later" / "calibration.json"
    ran = prefgen(
        "pair", labelled / "jury", "--calibration", calibration, "--out", labelled / "paired", "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.result["weighing"]["combine"] == "stacked"
    assert ran.result["weighing"]["judges"] == pytest.approx(weights)
    assert ran.result["counts"]["pairs"] > 10
    assert ran.result["usage"]["requests"] == 0

"""pair without --out: settings compared by hand, and held against what --out writes."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from asked import Fakes, calibrate_by_hand, fakes, generated
from making import PROMPT, candidate
from running import FAKES, Runner, files, rows, some_prompts

from pipelines.outcome import Outcome
from pipelines.what_if.sums import Tally
from prefgen.pairing import Paired
from prefgen.preference import Preference
from prefgen.sampling import Sampled
from prefgen.verdicts import Standing

__all__ = ["fakes"]


def outcome(*lengths: tuple[int, int]) -> Outcome:
    """Pairs with these lengths of chosen and rejected, each of confidence .8."""
    pairs = [
        Preference(PROMPT, candidate("x" * chosen, 1), candidate("y" * rejected, 2), 1.0, 0.8)
        for chosen, rejected in lengths
    ]
    return Outcome(PROMPT, Sampled(()), (), Standing({}), Paired(pairs), ())


def test_length_gap_and_effect_by_hand() -> None:
    """Chosen 10 and 20 (variance 50), rejected 4 and 8 (variance 8): 15 - 6 = 9, over √((50 + 8) / 2)."""
    tally = Tally()
    tally.add(outcome((10, 4), (20, 8)))
    tally.add(outcome())
    told = tally.as_json(calibrated=False)
    assert told["length_gap"] == 9
    assert told["cohens_d"] == pytest.approx(9 / math.sqrt(29))
    assert (told["pairs"], told["prompts_with_pair"], told["yield"]) == (2, 1, 0.5)
    assert told["mean_confidence"] == pytest.approx(0.8)
    assert told["expected_precision"] is None
    assert tally.as_json(calibrated=True)["expected_precision"] == pytest.approx(0.8)


def test_without_a_pair_nothing_is_made_up() -> None:
    tally = Tally()
    tally.add(outcome())
    told = tally.as_json(calibrated=True)
    assert {told[name] for name in ("length_gap", "cohens_d", "mean_confidence", "expected_precision")} == {
        None
    }


def test_settings_by_hand(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> None:
    """See `asked.TABLE`: at 60% all three pairs of a prompt, at 75% two, at 90% one."""
    run = generated(prefgen, tmp_path)
    before, asked = files(run), len(fakes.asked)
    found = prefgen("pair", run, "--strategy", "all", "--json").result
    counts = {row["min_confidence"]: row["pairs"] for row in found["rows"]}
    assert counts == {0.6: 6, 0.75: 4, 0.9: 2, 0.95: 0, 0.99: 0}
    (own,) = [row for row in found["rows"] if row["own"]]
    assert (own["strategy"], own["min_confidence"], own["max_pairs"], own["picked"]) == ("all", 0.6, 3, True)
    sure = [1 / (1 + math.exp(-margin)) for margin in (0.5, 2.5, 2.0)]
    assert own["mean_confidence"] == pytest.approx(sum(sure) / 3)
    (at_90,) = [row for row in found["rows"] if row["min_confidence"] == 0.9]
    assert at_90["dropped"] == {"margin": 4}
    assert (files(run), len(fakes.asked)) == (before, asked), "nothing is written, no model is asked"


def test_leaving_a_principle_out_by_hand(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> None:
    """By brief alone alpha loses to both; by kind alone all three pairs stay, with margins 2, 4 and 2."""
    run = generated(prefgen, tmp_path)
    found = prefgen("pair", run, "--strategy", "all", "--min-confidence", 0.6, "--json").result
    told = {each.pop("name"): each for each in found["weighings"]}
    assert told == {
        "without kind": {"clear": 2, "unclear": 0, "turned": 4, "unknown": 0},
        "without brief": {"clear": 6, "unclear": 0, "turned": 0, "unknown": 0},
    }


def test_the_table_for_people(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> None:
    run = generated(prefgen, tmp_path)
    ran = prefgen("pair", run, "--min-confidence", 0.75)
    lines = ran.out.splitlines()
    assert [line.split()[:3] for line in lines[1:5]] == [
        [">", "all", "≥"],
        ["best-worst", "≥", "0.75"],
        ["best-random", "≥", "0.75"],
        ["best-2sigma", "≥", "0.75"],
    ]
    assert "unknown, not calibrated" in ran.out
    assert max(map(len, lines[:10])) <= 100
    assert lines[-1] == (
        f"to write >: prefgen pair {run} --strategy all --max-pairs 3 --test-share 0.0 --out DIR"
    )


@pytest.fixture(scope="module")
def pairwise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from running import process

    folder = tmp_path_factory.mktemp("pairwise")
    prompts = some_prompts(folder / "prompts.jsonl", 12)
    env = {"PREFGEN_LEDGER": str(folder / "ledger.sqlite")}
    done = process("generate", prompts, *FAKES, "--n", 4, "--out", folder / "run", env=env)
    assert done.code == 0, done.err
    return folder / "run"


def grid(prefgen: Runner, *arguments: object) -> dict[str, Any]:
    ran = prefgen("pair", *arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.result


def test_every_row_is_what_its_command_writes(prefgen: Runner, pairwise: Path, tmp_path: Path) -> None:
    limits = ("--max-length-gap", 0.5, "--max-similarity", 0.8, "--seed", 5)
    found = grid(prefgen, pairwise, *limits, "--min-confidence", 0.7, "--min-confidence", 0.95)
    assert len(found["rows"]) == 8
    for number, row in enumerate(found["rows"]):
        words = shlex.split(row["command"])[1:-1]
        manifest = grid(prefgen, *words[1:], tmp_path / str(number))
        pairs = [
            row
            for split in ("train", "test")
            for row in rows(tmp_path / str(number) / "dpo" / f"{split}.parquet")
        ]
        assert manifest["counts"]["pairs"] == len(pairs) == row["pairs"]
        assert manifest["counts"]["dropped"] == row["dropped"]
        assert manifest["counts"]["kto_rows"] == row["kto_rows"]
        if pairs:
            gaps = [len(one["chosen"][0]["content"]) - len(one["rejected"][0]["content"]) for one in pairs]
            assert row["length_gap"] == pytest.approx(sum(gaps) / len(gaps))


def test_several_values_go_without_out(prefgen: Runner, pairwise: Path, tmp_path: Path) -> None:
    ran = prefgen("pair", pairwise, "--max-pairs", 1, "--max-pairs", 2, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "--max-pairs was given 2 times" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_config_file_with_out_writes(prefgen: Runner, pairwise: Path, tmp_path: Path) -> None:
    config = tmp_path / "pair.yaml"
    config.write_text(f"out: {tmp_path / 'out'}\nmin_confidence: 0.9\n")
    assert prefgen("pair", pairwise, "--config", config).code == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]["min_confidence"] == 0.9
    config.write_text("min_confidence: 0.9\nformat: standard\n")
    assert {row["min_confidence"] for row in grid(prefgen, pairwise, "--config", config)["rows"]} == {0.9}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-confidence", 0.2), "--min-confidence"),
        (("--target-precision", 0.9), "needs --calibration"),
        ([word for n in range(101) for word in ("--max-pairs", n + 1)], "more than 400 settings"),
    ],
)
def test_values_that_cannot_be(
    prefgen: Runner, pairwise: Path, options: tuple[object, ...], said: str
) -> None:
    ran = prefgen("pair", pairwise, *options)
    assert ran.code == 2
    assert said in ran.err


def test_expected_precision_by_the_runs_own_map(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> None:
    """With T = .5 the margins .5, 2.5 and 2 are log-odds 1, 5 and 4: 73%, 99.3% and 98.2%."""
    run = generated(prefgen, tmp_path)
    calibrate_by_hand(run, 0.5)
    found = prefgen("pair", run, "--strategy", "all", "--json").result
    told = {row["min_confidence"]: row for row in found["rows"]}
    sure = [1 / (1 + math.exp(-t)) for t in (1, 5, 4)]
    assert told[0.6]["expected_precision"] == pytest.approx(sum(sure) / 3)
    assert told[0.95]["expected_precision"] == pytest.approx(sum(sure[1:]) / 2)
    assert {name: row["pairs"] for name, row in told.items()} == {0.6: 6, 0.75: 4, 0.9: 4, 0.95: 4, 0.99: 2}
    shown = prefgen("pair", run, "--strategy", "all").out
    assert "people should agree with, by the calibration: an estimate" in shown
    assert "90.2%" in shown

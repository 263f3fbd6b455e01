"""`prefgen calibrate`: hand-worked items, published figures, and what generate makes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import krippendorff
import pytest
from people import chance, labelled_run
from running import FAKES, Runner, process, rows, some_prompts, write_prompts

from judges.planner import labels_to_earn
from pipelines.calibration.file import read_calibration
from prefgen.errors import GateError

SAMPLES = Path(__file__).parents[3] / "shared" / "data"
LABEL = {"prompt": "Q?", "response_a": "one", "response_b": "three"}


def write(path: Path, found: Iterable[Mapping[str, Any]]) -> Path:
    return write_prompts(path, found)


def labels(path: Path, given: Sequence[str]) -> Path:
    found = ({"id": n, **LABEL, "prompt": f"Question {n}?", "label": label} for n, label in enumerate(given))
    return write(path, found)


def test_the_contract_by_hand(tmp_path: Path, prefgen: Runner) -> None:
    """Six items. Judge: a (both orders), a, tie by opposite orders, b, b, none."""
    told = labels(tmp_path / "l.jsonl", ["a", "b", "a", "b", "tie", "a"])
    said = [
        *({"id": 0, "verdict": "a", "order": order} for order in ("ab", "ba")),
        {"id": 1, "verdict": "a", "order": "ab"},
        {"id": 2, "verdict": "a", "order": "ab"},
        {"id": 2, "verdict": "b", "order": "ba"},
        *({"id": 3, "verdict": "b", "order": order} for order in ("ab", "ba")),
        {"id": 4, "verdict": "b", "order": "ab"},
        {"id": 5, "verdict": None, "order": "ab"},
    ]
    verdicts = write(tmp_path / "v.jsonl", said)
    ran = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json")
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "c" / "calibration.json").read_text())
    assert found == ran.result
    assert (found["n"], found["n_items"], found["n_failed"]) == (5, 6, 1)
    # Human a b a b tie, judge a a tie b b: two of five; both decided: a b b against a a b, two of three.
    assert found["agreement"]["value"] == pytest.approx(0.4)
    assert found["agreement_no_ties"]["value"] == pytest.approx(2 / 3)
    assert found["confusion"] == {
        "a": {"a": 1, "b": 0, "tie": 1},
        "b": {"a": 1, "b": 1, "tie": 0},
        "tie": {"a": 0, "b": 1, "tie": 0},
    }
    # po = .4; pe = (2·2 + 2·2 + 1·1) / 25 = .36.
    assert found["kappa"]["value"] == pytest.approx((0.4 - 0.36) / 0.64)
    assert found["precision_macro"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert found["position"]["n_both_orders"] == 3
    assert found["position"]["consistency"] == pytest.approx(2 / 3)
    # Shown first won: 0 yes no, 1 yes, 2 yes yes, 3 no yes, 4 no.
    assert found["position"]["first_slot_rate"] == pytest.approx(5 / 8)
    # The longer response is b. Both decided: items 0, 1, 3: judge a a b, people a b b.
    assert found["length"]["judge_prefers_longer"] == pytest.approx(1 / 3)
    assert found["length"]["human_prefers_longer"] == pytest.approx(2 / 3)
    assert found["selective"] is None
    assert (
        "abstains"
        in prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--overwrite").out
    )


def test_failures_count_as_ties_only_when_told_to(tmp_path: Path, prefgen: Runner) -> None:
    told = labels(tmp_path / "l.jsonl", ["a", "tie", "b"])
    said = [{"id": 0, "verdict": "a"}, {"id": 1, "verdict": None}, {"id": 2, "verdict": "b"}]
    verdicts = write(tmp_path / "v.jsonl", said)
    command = ("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json")
    assert prefgen(*command).result["confusion"]["tie"] == {"a": 0, "b": 0, "tie": 0}
    counted = prefgen(*command, "--overwrite", "--failures-as-tie").result
    assert counted["confusion"]["tie"] == {"a": 0, "b": 0, "tie": 1}
    assert (counted["n"], counted["n_failed"]) == (3, 1)


def test_several_annotators(tmp_path: Path, prefgen: Runner) -> None:
    """Two of three say the same on every item: two people drawn agree on a third of the draws."""
    given = (("x", "a"), ("y", "a"), ("z", "b"))
    told = write(
        tmp_path / "l.jsonl",
        (
            {"id": n, **LABEL, "prompt": f"Question {n}?", "label": label, "annotator": name}
            for n in range(4)
            for name, label in given
        ),
    )
    verdicts = write(tmp_path / "v.jsonl", ({"id": n, "verdict": "a"} for n in range(4)))
    found = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json").result
    people = found["annotators"]
    assert people["n"] == 3
    assert people["human_agreement"] == pytest.approx(1 / 3)
    assert people["judge_agreement"]["value"] == pytest.approx(2 / 3)
    assert people["pairwise_kappa"]["x|z"] == pytest.approx(0.0)
    assert people["alternative_annotator"] is None
    assert found["agreement"]["value"] == 1.0


def test_the_threshold_is_tested_on_one_pair_of_each_prompt(tmp_path: Path, prefgen: Runner) -> None:
    """Forty prompts of five pairs each, which the judge gets all right or all wrong."""
    told = write(
        tmp_path / "l.jsonl",
        (
            {"id": n, **LABEL, "prompt": f"Question {n // 5}?", "label": "b" if n // 5 % 8 == 0 else "a"}
            for n in range(200)
        ),
    )
    verdicts = write(tmp_path / "v.jsonl", ({"id": n, "verdict": "a", "p_a": 0.9} for n in range(200)))
    found = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json").result
    assert len(found["selective_items"]["correct"]) == 40
    assert sum(found["selective_items"]["correct"]) == 35
    assert found["selective"] is None
    planner = found["planner"]
    assert (
        planner["more_for_target"] is None or planner["more_for_target"] == planner["labels_for_target"] - 40
    )
    shown = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c2").out
    assert "\n(tested on 40 labels, one of each prompt); for 90%: " in shown
    low, high = found["agreement"]["ci"]
    assert high - low > 0.15  # As of 40 observations, not of 200.


def test_pairs_of_one_prompt_have_intervals_and_a_warning(tmp_path: Path, prefgen: Runner) -> None:
    told = write(
        tmp_path / "l.jsonl", ({"id": n, **LABEL, "label": "a" if n % 4 else "b"} for n in range(60))
    )
    verdicts = write(tmp_path / "v.jsonl", ({"id": n, "verdict": "a"} for n in range(60)))
    ran = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json")
    low, high = ran.result["agreement"]["ci"]
    assert low < 0.7 < 0.8 < high
    assert "60 pairs of only 1 prompts" in ran.err


def test_a_judge_that_favours_its_own_family(tmp_path: Path, prefgen: Runner) -> None:
    """gpt wrote every a. Where people prefer a the judge agrees on 2 of 2, where they prefer b on 1 of 2."""
    given = ["a", "a", "b", "b"]
    told = write(
        tmp_path / "l.jsonl",
        (
            {"id": n, **LABEL, "prompt": f"Q {n}?", "label": label, "model_a": "gpt-x", "model_b": "claude-y"}
            for n, label in enumerate(given)
        ),
    )
    verdicts = write(
        tmp_path / "v.jsonl",
        ({"id": n, "verdict": said, "judge": "openai/gpt-9"} for n, said in enumerate("aaab")),
    )
    found = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json").result
    own = found["self_preference"]
    assert (own["n_own"], own["n_other"], own["own"], own["other"]) == (2, 2, 1.0, 0.5)
    assert own["difference"]["value"] == pytest.approx(0.5)


PUBLISHED = {
    "GPT-4/Vanilla_NoRules": (0.935, 0.97, None),
    "ChatGPT/Vanilla_NoRules": (0.79, 0.68, 0.64),
    "LLaMA2/Vanilla_NoRules": (0.77, 0.74, None),
    "Falcon/Vanilla_NoRules": (0.76, 0.60, 0.70),
    "GPT-4/Rating_NoRules": (0.90, 0.88, None),
}


def sample(name: str) -> list[dict[str, Any]]:
    text = (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.mark.skipif(not SAMPLES.exists(), reason="the shared samples are not here")
@pytest.mark.parametrize("judge", PUBLISHED)
def test_llmbar_natural_as_published(judge: str, tmp_path: Path, prefgen: Runner) -> None:
    """Accuracy averaged over both orders, agreement of the two orders, share that went to the first."""
    pairs, said = sample("llmbar_natural_pairs"), sample("llmbar_natural_verdicts")
    sides = {"1": "a", "2": "b", None: None}
    told = write(
        tmp_path / "l.jsonl",
        (
            {
                "id": row["id"],
                "prompt": row["input"],
                "response_a": row["output_1"],
                "response_b": row["output_2"],
                "label": sides[str(row["label"])],
            }
            for row in pairs
        ),
    )
    verdicts = write(
        tmp_path / "v.jsonl",
        (
            {"id": row["id"], "verdict": sides[row[f"winner_order{shown}"]], "order": order, "judge": judge}
            for row in said
            if row["judge"] == judge
            for shown, order in (("12", "ab"), ("21", "ba"))
        ),
    )
    found = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json").result
    accuracy, consistency, first = PUBLISHED[judge]
    assert found["agreement_single"]["value"] == pytest.approx(accuracy, abs=0.005)
    assert found["position"]["consistency"] == pytest.approx(consistency, abs=0.005)
    if first is not None:
        assert found["position"]["first_slot_rate"] == pytest.approx(first, abs=0.005)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prompts, a run on them, labels of its pairs, and in `c` the calibration of its judge."""
    folder = labelled_run(tmp_path_factory.mktemp("calibrated"), 450)
    env = {"PREFGEN_LEDGER": str(folder / "ledger.sqlite")}
    told = ("calibrate", folder / "l.jsonl", "--judge", "scripted/judge", "--out", folder / "c")
    assert process(*told, env=env).code == 0
    return folder


@pytest.mark.skipif(not SAMPLES.exists(), reason="the shared samples are not here")
def test_crowd_votes_as_the_krippendorff_package_counts_them(tmp_path: Path, prefgen: Runner) -> None:
    """200 pairs of one topic with about five votes each, of a, b and equal, by many workers."""
    pairs = sample("ukp_plastic_bottles_votes")
    side = {"a1": "a", "a2": "b", "equal": "tie"}
    told = write(
        tmp_path / "l.jsonl",
        (
            {"id": row["pair_id"], "prompt": f"{row['prompt']}: {row['stance']}", "response_a": row["arg1"]}
            | {"response_b": row["arg2"], "label": side[vote["vote"]], "annotator": vote["worker"]}
            for row in pairs
            for vote in row["votes"]
        ),
    )
    verdicts = write(
        tmp_path / "v.jsonl",
        ({"id": row["pair_id"], "verdict": side[row["gold"]]} for row in pairs if row["gold"] is not None),
    )
    found = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json").result
    votes = {(row["pair_id"], vote["worker"]): vote["vote"] for row in pairs for vote in row["votes"]}
    workers = sorted({worker for _, worker in votes})
    code = {"a1": 0.0, "a2": 1.0, "equal": 2.0}
    matrix = [
        [code.get(votes.get((row["pair_id"], worker), ""), math.nan) for row in pairs] for worker in workers
    ]
    expected = krippendorff.alpha(reliability_data=matrix, level_of_measurement="nominal")
    assert found["annotators"]["krippendorff_alpha"] == pytest.approx(expected, abs=1e-9)
    assert found["annotators"]["n"] == len(workers)
    assert found["n_failed"] == sum(row["gold"] is None for row in pairs) > 0
    assert found["selective"] is None  # They are all of one prompt.


def test_generate_keeps_what_earns_the_precision(calibrated: Path, prefgen: Runner) -> None:
    found = json.loads((calibrated / "c" / "calibration.json").read_text())
    # Half the log-odds of the judge, which its liking for a position does not move.
    assert found["probability"]["temperature"] == pytest.approx(2.0, rel=0.3)
    assert found["position"]["bias_log_odds"] == pytest.approx(0.5)
    assert found["probability"]["ece_calibrated"] < found["probability"]["ece_raw"]
    options = ("--calibration", calibrated / "c" / "calibration.json", "--target-precision", 0.9)
    prompts = write_prompts(
        calibrated / "more.jsonl", ({"prompt": f"Another question {n * 7}: why?"} for n in range(150))
    )
    out = calibrated / "more"
    ran = prefgen(
        "generate", prompts, *FAKES, "--n", 4, *options, "--strategy", "all", "--max-pairs", 6,
        "--test-share", 0, "--out", out, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    kept = rows(out / "dpo" / "train.parquet")
    true = [chance(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in kept]
    assert len(kept) > 100
    assert sum(true) / len(true) >= 0.9
    assert ran.result["expected_label_precision"] == pytest.approx(sum(true) / len(true), abs=0.03)
    threshold = ran.result["calibration"]["stages"][0]["selective"]["threshold"]
    assert min(row["confidence"] for row in kept) >= threshold
    assert all(row["confidence"] < 1 / (1 + math.exp(-row["margin"])) for row in kept)


def test_pair_labels_a_stored_run_by_a_calibration(calibrated: Path, prefgen: Runner) -> None:
    options = ("--calibration", calibrated / "c" / "calibration.json")
    ran = prefgen("pair", calibrated / "run", *options, "--out", calibrated / "paired", "--json")
    assert ran.code == 0, ran.err
    assert 0.75 <= ran.result["expected_label_precision"] < 1
    assert ran.result["calibration"]["stages"][0]["selective"] is None
    again = prefgen("report", calibrated / "paired", "--json")
    assert again.code == 0, again.err
    strategy = ("--strategy", "best-worst")
    grid = prefgen("pair", calibrated / "paired", *strategy, "--min-confidence", 0.75, "--json").result
    (own,) = [row for row in grid["rows"] if row["own"]]
    assert own["pairs"] == ran.result["counts"]["pairs"]
    assert own["expected_precision"] == pytest.approx(ran.result["expected_label_precision"])
    targets = ("--target-precision", 0.8, "--target-precision", 0.9, "--target-precision", 0.9999)
    grid = prefgen("pair", calibrated / "run", *options, *strategy, *targets, "--json").result
    for row, number in zip(grid["rows"][:2], (0.8, 0.9), strict=True):
        written = calibrated / f"at-{number}"
        settings = (*options, "--target-precision", number, "--out", written, "--json")
        told = prefgen("pair", calibrated / "run", *settings).result
        assert row["pairs"] == told["counts"]["pairs"]
        assert row["threshold"] == told["calibration"]["stages"][0]["selective"]["threshold"]
    assert (grid["rows"][2]["pairs"], grid["rows"][2]["threshold"]) == (0, None)
    shown = prefgen("pair", calibrated / "run", *options, *strategy, *targets).out
    assert "never for 99.99%" in shown


def test_nothing_is_paid_for_what_cannot_be_earned(calibrated: Path, prefgen: Runner) -> None:
    few = [json.loads(line) for line in (calibrated / "l.jsonl").read_text().splitlines()[:25]]
    told = write(calibrated / "few.jsonl", few)
    assert prefgen("calibrate", told, "--judge", "scripted/judge", "--out", calibrated / "few").code == 0
    ran = prefgen(
        "generate", calibrated / "p.jsonl", *FAKES, "--out", calibrated / "none",
        "--calibration", calibrated / "few" / "calibration.json", "--target-precision", 0.9,
    )  # fmt: skip
    assert ran.code == 3
    assert "no threshold" in ran.err
    assert "25 labels" in ran.err
    assert "fix: more human labels of other prompts (25 were tested, one of each prompt), a lower" in ran.err
    assert not (calibrated / "none").exists()


def test_a_refusal_says_how_many_labels_would_do(calibrated: Path) -> None:
    """The most confident of 40 is wrong: the test ends at its 30 first, though 39 of 40 are right."""
    found = json.loads((calibrated / "c" / "calibration.json").read_text())
    sure, right = [1 - place / 100 for place in range(40)], [place > 0 for place in range(40)]
    needed = labels_to_earn(sure, right, 0.95, 0.1)
    assert needed is not None
    assert needed > 40
    told = write(
        calibrated / "told.json",
        [found | {"selective_items": {**found["selective_items"], "confidence": sure, "correct": right}}],
    )
    with pytest.raises(GateError) as raised:
        read_calibration(told).stages(0.95)
    assert f"fix: about {needed - 40} more human labels of other prompts (40 were tested" in str(raised.value)


def test_a_calibration_is_of_one_judge_asked_in_one_way(calibrated: Path, prefgen: Runner) -> None:
    ran = prefgen(
        "generate", calibrated / "p.jsonl", *FAKES, "--constitution", "support-tone",
        "--calibration", calibrated / "c" / "calibration.json", "--out", calibrated / "other",
    )  # fmt: skip
    assert ran.code == 2
    assert "another judge" in ran.err
    assert "constitution" in ran.err


def test_repeats_ask_anew_and_tell_how_steady_the_judge_is(calibrated: Path, prefgen: Runner) -> None:
    ran = prefgen(
        "calibrate", calibrated / "l.jsonl", "--judge", "scripted/judge", "--repeats", 3,
        "--out", calibrated / "r", "--json",
    )  # fmt: skip
    assert ran.result["repeats"]["n_questions"] == 900
    assert ran.result["repeats"]["agreement"]["value"] == 1.0
    assert len((calibrated / "r" / "verdicts.jsonl").read_text().splitlines()) == 3 * 900


def test_pairs_to_label_next(calibrated: Path, prefgen: Runner) -> None:
    unlabelled = [
        {"id": f"new {n}", "prompt": f"New {n}?", "response_a": "x " * n, "response_b": "y z"}
        for n in range(1, 40)
    ]
    ran = prefgen(
        "calibrate", calibrated / "l.jsonl", "--judge", "scripted/judge", "--out", calibrated / "n",
        "--unlabelled", write(calibrated / "u.jsonl", unlabelled), "--next", 10, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    drawn = [json.loads(line) for line in (calibrated / "n" / "next.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in drawn}) == 10
    assert {row["id"] for row in drawn} <= {row["id"] for row in unlabelled}
    assert ran.result["planner"]["next"] == {"file": "next.jsonl", "n": 10, "of": 39, "without_verdict": 0}


def test_principles_are_weighed_by_what_people_follow(calibrated: Path, prefgen: Runner) -> None:
    ran = prefgen(
        "calibrate", calibrated / "l.jsonl", "--judge", "scripted/judge", "--judging", "pointwise",
        "--out", calibrated / "pointwise", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    weights = [told["weight"] for told in ran.result["principles"].values()]
    assert sum(weights) == pytest.approx(1)
    again = prefgen(
        "generate", calibrated / "p.jsonl", *FAKES, "--judging", "pointwise", "--out", calibrated / "pp",
        "--calibration", calibrated / "pointwise" / "calibration.json", "--json",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert again.result["weighing"]["principles"] == {
        name: pytest.approx(told["weight"]) for name, told in ran.result["principles"].items()
    }


@pytest.mark.parametrize("given", [["a"], ["tie", "tie"], ["a", "tie"], ["a", "b"]])
def test_very_few_labels_end_in_abstention(given: list[str], tmp_path: Path, prefgen: Runner) -> None:
    told = labels(tmp_path / "l.jsonl", given)
    verdicts = write(tmp_path / "v.jsonl", ({"id": n, "verdict": "a"} for n in range(len(given))))
    ran = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json")
    assert ran.code == 0, ran.err
    assert ran.result["selective"] is None
    assert (ran.result["probability"] is None) == (set(given) == {"tie"})


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--out", "c"], 2, ["--judge MODEL", "--verdicts FILE"]),
        (["--verdicts", "v.jsonl", "--judge", "scripted/judge", "--out", "c"], 2, ["exactly one"]),
        (["--verdicts", "none.jsonl", "--out", "c"], 2, ["none.jsonl", "no such file"]),
        (["--verdicts", "other.jsonl", "--out", "c"], 2, ["no verdict is on a pair", "'zzz'", "'0'"]),
        (["--verdicts", "null.jsonl", "--out", "c"], 3, ["no usable verdict"]),
        (["--verdicts", "v.jsonl", "--target", 0.3, "--out", "c"], 2, ["--target", "0.3"]),
        (["--verdicts", "lfs.jsonl", "--out", "c"], 2, ["git-lfs", "git lfs pull"]),
        (["--verdicts", "v.jsonl", "--out", "used"], 2, ["exists already", "--overwrite"]),
    ],
)
def test_wrong_inputs(
    arguments: list[Any], code: int, words: list[str], tmp_path: Path, prefgen: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    labels(Path("l.jsonl"), ["a", "b"])
    write(Path("v.jsonl"), [{"id": 0, "verdict": "a"}])
    write(Path("other.jsonl"), [{"id": "zzz", "verdict": "a"}])
    write(Path("null.jsonl"), [{"id": 0, "verdict": None}])
    Path("lfs.jsonl").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    Path("used").mkdir()
    Path("used/calibration.json").write_text("{}")
    ran = prefgen("calibrate", "l.jsonl", *arguments)
    assert ran.code == code, ran.err
    assert all(word in ran.err for word in words), ran.err


def test_what_is_read_is_never_written_over(calibrated: Path, prefgen: Runner) -> None:
    """Labelling next.jsonl in place and calibrating again is what people will do."""
    folder = calibrated / "again"
    folder.mkdir()
    (folder / "next.jsonl").write_bytes((calibrated / "l.jsonl").read_bytes())
    new = write(calibrated / "new.jsonl", [{"id": "new", **LABEL, "prompt": "New?"}])
    command = ("calibrate", folder / "next.jsonl", "--judge", "scripted/judge", "--unlabelled", new)
    for more in ((), ("--overwrite",), ("--resume",)):
        ran = prefgen(*command, "--out", folder, *more)
        assert ran.code == 2
        assert "would be written over" in ran.err
    (folder / "report.html").write_text("mine")
    ran = prefgen("calibrate", calibrated / "l.jsonl", "--judge", "scripted/judge", "--out", folder)
    assert ran.code == 2
    assert (folder / "report.html").read_text() == "mine"
    ran = prefgen("calibrate", calibrated / "l.jsonl", "--judge", "scripted/judge", "--out", new)
    assert ran.code == 2
    assert "is a file" in ran.err


def test_an_id_that_stands_for_two_pairs_is_refused(calibrated: Path, prefgen: Runner) -> None:
    other = write(calibrated / "other.jsonl", [{"id": 0, **LABEL, "prompt": "Another?"}])
    command = ("calibrate", calibrated / "l.jsonl", "--judge", "scripted/judge", "--out", calibrated / "o")
    ran = prefgen(*command, "--unlabelled", other)
    assert ran.code == 2
    assert "the id '0' stands for another pair" in ran.err
    ran = prefgen(*command, "--unlabelled", calibrated / "l.jsonl")
    assert ran.code == 2
    assert "every pair stands in" in ran.err


def test_principles_told_of_by_half_of_the_verdicts_are_not_weighed(tmp_path: Path, prefgen: Runner) -> None:
    told = labels(tmp_path / "l.jsonl", ["a", "b"] * 10)
    verdicts = write(
        tmp_path / "v.jsonl",
        ({"id": n, "verdict": "a", "p_a": 0.7, "principles": {"xy"[n % 2]: 0.7}} for n in range(20)),
    )
    ran = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c", "--json")
    assert ran.code == 0, ran.err
    assert ran.result["principles"] is None


def test_what_looks_wrong_is_counted_aloud(tmp_path: Path, prefgen: Runner) -> None:
    told = write(
        tmp_path / "l.jsonl",
        [{"id": n, **LABEL, "label": "a"} for n in (1, 2)]
        + [{"id": 3, **LABEL, "prompt": "Else?", "label": "b"}],
    )
    said = [
        {"id": "1", "verdict": "a", "p_a": 0.1},
        {"id": 3, "verdict": "b"},
        {"id": "unknown", "verdict": "b"},
    ]
    verdicts = write(tmp_path / "v.jsonl", said)
    ran = prefgen("calibrate", told, "--verdicts", verdicts, "--out", tmp_path / "c")
    assert ran.code == 0, ran.err
    assert "1 labelled pairs have no verdict at all" in ran.err
    assert "1 verdicts are on ids without a label" in ran.err
    assert "1 verdicts contradict their own p_a" in ran.err
    assert "1 labelled pairs stand twice" in ran.err


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("n",), -3, "n: "),
        (("selective_items", "correct"), [True], "labels"),
        (("probability", "map", "kind"), "isotonic", "without steps"),
        (("probability", "map", "style"), {"taste": [1.0, 1.0]}, "style takes"),
        (("probability", "map", "style"), {"length": [1.0, 0.0]}, "above 0"),
        (("probability", "map", "steps"), [[0.0, 1.0], [1.0, 0.5]], "must rise"),
        (("principles",), {"x": {"weight": 0.0}}, "all weights are 0"),
        (("judge",), {"names": None, "judge": []}, "another judge"),
        (("judge",), {"names": [1]}, "judge.names"),
    ],
)
def test_a_damaged_calibration_is_refused(
    path: tuple[str, ...], value: Any, words: str, calibrated: Path, tmp_path: Path, prefgen: Runner
) -> None:
    found = json.loads((calibrated / "c" / "calibration.json").read_text())
    inner = found
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (tmp_path / "c.json").write_text(json.dumps(found))
    ran = prefgen(
        "generate", calibrated / "p.jsonl", *FAKES, "--calibration", tmp_path / "c.json",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert ran.code == 2
    assert words in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"n": 3}', "no json"])
def test_what_is_no_calibration_is_refused(text: str, tmp_path: Path, prefgen: Runner) -> None:
    (tmp_path / "c.json").write_text(text)
    ran = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl"), *FAKES, "--calibration", tmp_path / "c.json",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert ran.code == 2
    assert "not a calibration" in ran.err
    ran = prefgen(
        "generate", tmp_path / "p.jsonl", *FAKES, "--target-precision", 0.9, "--out", tmp_path / "run"
    )
    assert ran.code == 2
    assert "--calibration" in ran.err

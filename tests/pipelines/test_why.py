"""why: the story of a pair against tables worked out by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from asked import TEXTS, Fakes, calibrate_by_hand, fakes, generated
from looping import install, write_config
from running import FAKES, Runner, rows, some_prompts, write_prompts
from tiny_models import make_tokenizer

from pipelines.uses import record, record_training, rows_of
from prefgen.completion import CompletionRequest
from prefgen.models.scripted import ScriptedModel, open_scripted

__all__ = ["fakes"]


def told(prefgen: Runner, *arguments: object) -> dict[str, Any]:
    ran = prefgen("why", *arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.result


def pair(run: Path, chosen: str, rejected: str, prompt: str = "first") -> dict[str, Any]:
    """The row of the pair whose sides begin with these words."""
    return next(
        row
        for row in rows(run / "dpo" / "train.parquet")
        if row["prompt_id"] == prompt
        and row["chosen"][0]["content"].startswith(chosen)
        and row["rejected"][0]["content"].startswith(rejected)
    )


def candidates(run: Path, prompt: str = "first") -> dict[str, str]:
    """Ids of a prompt's candidates by their first word."""
    found = rows(run / "candidates.parquet")
    return {row["response"].split()[0]: row["candidate_id"] for row in found if row["prompt_id"] == prompt}


@pytest.fixture
def run(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> Path:
    return generated(prefgen, tmp_path, "--min-confidence", 0.75)


def test_a_kept_pair_in_numbers(prefgen: Runner, run: Path) -> None:
    """alpha over gamma: kind .75 · (2 + 2) = 3, brief .25 · (-2 - 0) = -.5, in all 2.5: 92.4%."""
    row = pair(run, "alpha", "gamma")
    found = told(prefgen, run, row["pair_id"][:8])
    assert found["kept"] is True
    assert found["pair_id"] == row["pair_id"]
    (judge,) = found["combined"]["judges"]
    terms = {term["principle"]: term for term in judge["terms"]}
    kind, brief = terms["kind"], terms["brief"]
    assert (kind["first"], kind["second"]) == ([pytest.approx(2)], [pytest.approx(-2)])
    assert (kind["value"], kind["weight"]) == (pytest.approx(4), 0.75)
    assert (brief["value"], brief["weight"]) == (pytest.approx(-2), 0.25)
    assert judge["margin"] == found["combined"]["margin"] == pytest.approx(2.5)
    assert found["margin"] == row["margin"]
    assert found["confidence"] == row["confidence"] == pytest.approx(1 / (1 + math.exp(-2.5)))
    assert [item["text"] for item in found["constitution"]["principles"]] == [
        "The reply must be kind.",
        "The reply must be brief.",
    ]
    assert len(found["judgments"]) == 4
    assert found["judgments_of_prompt"] == 6
    stored = {item["ledger_key"] for item in rows(run / "judgments.parquet")}
    assert {item["ledger_key"] for item in found["judgments"]} < stored
    assert {item["raw"] for item in found["judgments"]} == {"yes", "no"}
    assert {"dataset": "dpo", "split": "train"} in found["rows"]
    assert {item["text"] for item in found["candidates"]} == set(TEXTS)


def test_the_text_says_all_of_it(prefgen: Runner, run: Path) -> None:
    ran = prefgen("why", run, pair(run, "alpha", "gamma")["pair_id"])
    for said in (
        "kept, chosen over rejected with confidence 0.9241",
        "user: What of the parcel?",
        "CHOSEN: scripted/w, draw 0, seed",
        "| alpha is one answer",
        "chosen, kind: log-odds +2.000, probability 0.881",
        "kind (weight 3): The reply must be kind.",
        "kind       +2.000  -2.000      +4.000    0.7500  +3.000",
        "sum +2.500",
        "1 / (1 + exp(−2.500)) = 0.9241",
        "strategy all, at most 3 a prompt",
        "dpo/train.parquet",
        "nothing on record",
    ):
        assert said in ran.out, said
    assert max(map(len, ran.out.splitlines())) <= 100


def test_a_dropped_pair_by_its_two_responses(prefgen: Runner, run: Path) -> None:
    """alpha over beta: .5, 62.2%, under 75%: it waits for people."""
    ids = candidates(run)
    found = told(prefgen, run, ids["beta"], ids["alpha"])
    assert (found["kept"], found["reason"], found["better"]) == (False, "margin", ids["alpha"])
    assert found["confidence"] == pytest.approx(1 / (1 + math.exp(-0.5)))
    waiting = {row["prompt_id"]: row["id"] for row in rows(run / "undecided.parquet")}
    assert found["pair_id"] == waiting["first"]
    assert told(prefgen, run, waiting["first"]) == found
    shown = prefgen("why", run, waiting["first"]).out
    assert "no pair, not clear enough" in shown
    assert "undecided.parquet, as" in shown
    assert "needed: ≥ 0.75" in shown


@pytest.mark.parametrize(
    ("options", "sides", "reason"),
    [
        (("--strategy", "best-worst"), ("beta", "gamma"), "not_proposed"),
        (("--strategy", "all", "--max-pairs", 1), ("beta", "gamma"), "over_max_pairs"),
        (("--strategy", "all", "--max-length-gap", 0.05), ("alpha", "gamma"), "length_gap"),
    ],
)
def test_what_rule_dropped_a_pair(
    prefgen: Runner,
    run: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    sides: tuple[str, str],
    reason: str,
) -> None:
    other = tmp_path / "other"
    assert prefgen("pair", run, *options, "--out", other).code == 0
    found = told(prefgen, other, *(candidates(run)[name] for name in sides))
    assert (found["kept"], found["reason"], found["pair_id"]) == (False, reason, None)
    assert found["source"] == str(run)


def test_a_failed_judgment_is_told(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> None:
    fakes.failing = {("brief", "gamma")}
    run = generated(prefgen, tmp_path, "--max-failure-share", 0.5)
    ids = candidates(run)
    ran = prefgen("why", run, ids["alpha"], ids["gamma"])
    assert "no pair, a judgment failed, and none takes its place" in ran.out
    assert "gamma" in ran.out
    assert "FAILED: refusal" in ran.out
    assert "| I will not say" in ran.out
    assert "no margin: a judgment failed, and none takes its place" in ran.out
    # Nobody knows which is better: one order failed.
    assert "Combined  log-odds that ONE wins" in ran.out
    assert {"BETTER", "WORSE"}.isdisjoint(ran.out.split())
    assert "not clear" not in ran.out


def test_a_pair_that_is_passed_over_tells_also_what_failed(
    prefgen: Runner, tmp_path: Path, fakes: Fakes
) -> None:
    fakes.failing = {("brief", "beta")}
    run = generated(prefgen, tmp_path, "--max-failure-share", 0.5, "--strategy", "best-worst")
    ids = candidates(run)
    pairs = told(prefgen, run, "first")["pairs"]
    passed = [row for row in pairs if row["reason"] == "not_proposed" and row["margin"] is None]
    assert {row["objection"] for row in passed} == {"judge_failure"}
    sides = {row["better"] for row in passed} | {row["worse"] for row in passed}
    assert ids["beta"] in sides
    row = passed[0]
    shown = prefgen("why", run, row["better"], row["worse"]).out.splitlines()[0]
    assert shown.endswith(
        "the strategy takes another pair of this prompt; besides, a judgment failed, and none takes its place"
    )


def test_pairs_of_a_prompt_and_of_a_response(prefgen: Runner, run: Path) -> None:
    ids = candidates(run)
    found = told(prefgen, run, "first")
    assert [(row["better"], row["worse"], row["kept"], row["reason"]) for row in found["pairs"]] == [
        (ids["alpha"], ids["gamma"], True, None),
        (ids["beta"], ids["gamma"], True, None),
        (ids["alpha"], ids["beta"], False, "margin"),
    ]
    of_alpha = told(prefgen, run, ids["alpha"])["pairs"]
    assert {frozenset((row["better"], row["worse"])) for row in of_alpha} == {
        frozenset((ids["alpha"], ids["gamma"])),
        frozenset((ids["alpha"], ids["beta"])),
    }
    shown = prefgen("why", run, "first").out
    assert shown.index("alpha") < shown.index("beta") < shown.index("gamma")


def test_ids_are_shown_without_one(prefgen: Runner, run: Path) -> None:
    found = told(prefgen, run)
    least, most = found["least_sure"][0], found["surest"][0]
    assert least["confidence"] == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert most["confidence"] == pytest.approx(1 / (1 + math.exp(-2.5)))
    assert len(found["undecided"]) == 2
    shown = prefgen("why", run).out
    assert most["pair_id"] in shown
    assert "not clear enough:\n  " in shown


def test_a_list_without_ids_is_not_shown(prefgen: Runner, tmp_path: Path, fakes: Fakes) -> None:
    run = generated(prefgen, tmp_path, "--min-confidence", 0.6)
    assert told(prefgen, run)["undecided"] == []
    assert "not clear enough:" not in prefgen("why", run).out


def test_an_unknown_id_names_the_nearest(prefgen: Runner, run: Path) -> None:
    right = pair(run, "alpha", "gamma")["pair_id"]
    ran = prefgen("why", run, right[:-1] + ("0" if right[-1] != "0" else "1"))
    assert ran.code == 2
    assert f"expected: perhaps {right}" in ran.err
    assert f"prefgen why {run} shows some pairs" in ran.err
    ran = prefgen("why", run, candidates(run)["alpha"], candidates(run, "second")["alpha"])
    assert (ran.code, "two candidates of one prompt" in ran.err) == (2, True)
    assert prefgen("why", run, "a", "b", "c").code == 2


def test_the_beginning_of_several_ids_is_refused(prefgen: Runner, tmp_path: Path) -> None:
    prompts = [{"id": f"order-{n}", "prompt": f"What of order {n * 31}?"} for n in range(3)]
    path = write_prompts(tmp_path / "p.jsonl", prompts)
    assert prefgen("generate", path, *FAKES, "--out", tmp_path / "run").code == 0
    ran = prefgen("why", tmp_path / "run", "order-")
    assert ran.code == 2
    assert "the beginning of 3 ids: prompt order-0, prompt order-1, prompt order-2" in ran.err
    assert told(prefgen, tmp_path / "run", "order-1")["prompt_id"] == "order-1"


def test_both_orders_and_the_slot_in_numbers(prefgen: Runner, tmp_path: Path) -> None:
    """The scripted judge's log-odds are the difference in words, and .5 for what is shown first."""
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    assert prefgen("generate", prompts, *FAKES, "--planted", 0, "--out", tmp_path / "run").code == 0
    row = rows(tmp_path / "run" / "dpo" / "train.parquet")[0]
    found = told(prefgen, tmp_path / "run", row["pair_id"])
    ((term,),) = [judge["terms"] for judge in found["combined"]["judges"]]
    (first,), (second,) = term["first"], term["second"]
    assert found["combined"]["slot_bias"] == pytest.approx(0.5) == pytest.approx((first - second) / 2)
    assert found["margin"] == pytest.approx((first + second) / 2) == row["margin"]
    assert {item["shown_first"] for item in found["judgments"]} == {row["chosen_id"], row["rejected_id"]}
    shown = prefgen("why", tmp_path / "run", row["pair_id"]).out
    assert "chosen against rejected, rejected shown first: log-odds" in shown
    assert "towards the response shown first: +0.500" in shown


def test_a_jury_is_pooled_in_the_open(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    jury = ("--policy", "scripted/writer", "--judge", "scripted/judge", "--judge", "scripted/hasty")
    assert prefgen("generate", prompts, *jury, "--planted", 0, "--out", tmp_path / "run").code == 0
    row = rows(tmp_path / "run" / "dpo" / "train.parquet")[0]
    found = told(prefgen, tmp_path / "run", row["pair_id"])
    margins = [judge["margin"] for judge in found["combined"]["judges"]]
    assert len(margins) == 2
    assert found["margin"] == pytest.approx(sum(margins) / 2)
    assert "mean of 2 judges" in prefgen("why", tmp_path / "run", row["pair_id"]).out


def test_an_old_run_whose_constitution_is_gone(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["constitution"]["principles"]  # As runs of before had it.
    (run / "manifest.json").write_text(json.dumps(manifest))
    name = pair(run, "alpha", "gamma")["pair_id"]
    shutil.move(tmp_path / "a.yaml", tmp_path / "kept.yaml")
    assert told(prefgen, run, name)["constitution"]["principles"] is None
    assert "--constitution FILE names it" in prefgen("why", run, name).out
    found = told(prefgen, run, name, "--constitution", tmp_path / "kept.yaml")
    assert [item["id"] for item in found["constitution"]["principles"]] == ["kind", "brief"]
    ran = prefgen("why", run, name, "--constitution", "support-tone")
    assert ran.code == 2
    assert "not the run's constitution" in ran.err


def test_what_models_wrote_does_not_reach_the_terminal_raw(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(request: CompletionRequest, sample: int) -> str:
        return "\x1b[2J\x07hidden " + "a b c d e f g h i j k"[: 2 * sample + 1] + f" \u202e{sample}"

    async def opened(text: str, *_: Any) -> Any:
        return open_scripted("judge") if "judge" in text else ScriptedModel(write, text)

    monkeypatch.setattr("pipelines.roles.open_model", opened)
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    assert prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run").code == 0
    name = rows(tmp_path / "run" / "dpo" / "train.parquet")[0]["pair_id"]
    for ran in (prefgen("why", tmp_path / "run", name), prefgen("why", tmp_path / "run")):
        assert not set(ran.out) & {"\x1b", "\x07", "\u202e"}
    assert "hidden" in prefgen("why", tmp_path / "run", name).out


def test_a_calibrated_confidence_in_numbers(prefgen: Runner, run: Path) -> None:
    """2.5 / .5 = 5: 99.3%, where the judge at its word has 92.4%."""
    calibrate_by_hand(run, 0.5)
    name = pair(run, "alpha", "gamma")["pair_id"]
    found = told(prefgen, run, name)
    assert found["confidence"] == pytest.approx(1 / (1 + math.exp(-5)))
    assert found["calibration"]["raw_probability"] == pytest.approx(1 / (1 + math.exp(-2.5)))
    shown = prefgen("why", run, name).out
    assert "temperature map, T = 0.500: t = +2.500 / T = +5.000; ties 0.000" in shown
    assert "probability that people agree: 0.9933 (the judge at its word: 0.9241)" in shown


# ------------------------------------------------------------------------------------------------- trainings


def trained(folder: Path, run: Path, stage: str = "dpo", **more: Any) -> Path:
    """A training on the run, as its `training.json` tells it."""
    hashes, data = rows_of(run), "kto" if stage == "kto" else "dpo"
    folder.mkdir(parents=True)
    counts = {"train_used": 4} | more.pop("counts", {})
    config = {
        "data": str(run), "model": "none", "eval_share": 0.0, "as_chat": False, "batch_size": 2,
        "gradient_accumulation": 1,
    }  # fmt: skip
    told = {
        "stage": stage, "steps": 2, "config": config | more.pop("config", {}), "counts": counts,
        "inputs": {"train": hashes[f"{data}/train.parquet"]}, "settings": {"max_length": 512, "processes": 1},
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(told | more))
    record_training(run, folder)
    return folder


def saw(prefgen: Runner, run: Path, *more: object) -> list[list[str]]:
    found = told(prefgen, run, pair(run, "alpha", "gamma")["pair_id"], *more)
    return [use["saw"] for use in found["uses"] if use["kind"] == "training"]


def test_which_trainings_saw_a_pair(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    ids = candidates(run)
    trained(tmp_path / "models" / "dpo", run)
    trained(tmp_path / "models" / "short", run, steps=1)
    trained(tmp_path / "models" / "kto", run, stage="kto")
    gone = trained(tmp_path / "models" / "gone", run)
    shutil.rmtree(gone)
    assert saw(prefgen, run) == [
        ["row 1 of dpo/train.parquet: trained on it (2 steps)"],
        ["row 1 of dpo/train.parquet: trained on it, unless it was not reached: 1 steps took 2 of 4 rows"],
        [
            f"desirable side {ids['alpha']}: row 1 of kto/train.parquet: trained on it (2 steps)",
            f"undesirable side {ids['gamma']}: row 3 of kto/train.parquet: trained on it (2 steps)",
        ],
        ["its folder is gone, so that nothing is known of its rows"],
    ]
    dropped = told(prefgen, run, ids["alpha"], ids["beta"])
    assert dropped["uses"][0]["saw"] == ["not among the rows it read"]
    shown = " ".join(prefgen("why", run, ids["alpha"], ids["beta"]).out.split())
    assert "models/gone (gone)" in shown


def test_a_row_that_a_training_held_out(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    """Of two prompts one is held out: whichever it is, the training says the other thing of the other."""
    trained(tmp_path / "models" / "dpo", run, config={"eval_share": 0.5})
    found = {
        prompt: told(prefgen, run, pair(run, "alpha", "gamma", prompt)["pair_id"])["uses"][0]["saw"][0]
        for prompt in ("first", "second")
    }
    said = sorted(text.partition(": ")[2] for text in found.values())
    assert said == ["held out (--eval-share), not trained on", "trained on it (2 steps)"]


def test_a_row_of_the_test_split_was_held_out(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    options = ("--strategy", "all", "--max-pairs", 3, "--test-share", 0.5)
    assert prefgen("pair", run, *options, "--out", other).code == 0
    (row, *_) = rows(other / "dpo" / "test.parquet")
    inputs = {"train": rows_of(other)["dpo/train.parquet"], "eval": rows_of(other)["dpo/test.parquet"]}
    trained(tmp_path / "models" / "dpo", other, inputs=inputs)
    found = told(prefgen, other, row["pair_id"])
    assert found["uses"][0]["saw"] == ["held out: evaluated on, not trained on"]
    assert {"dataset": "dpo", "split": "test"} in found["rows"]


def test_a_row_that_a_training_could_not_use(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    folder = trained(
        tmp_path / "models" / "dpo", run, counts={"train_dropped_prompt_too_long": 2},
        settings={"max_length": 3, "processes": 1},
    )  # fmt: skip
    make_tokenizer().save_pretrained(folder)
    assert saw(prefgen, run) == [["row 1 of dpo/train.parquet: left out by the training (prompt too long)"]]
    report = json.loads((folder / "training.json").read_text())
    report["settings"]["max_length"] = 512
    (folder / "training.json").write_text(json.dumps(report))
    assert saw(prefgen, run) == [["row 1 of dpo/train.parquet: trained on it (2 steps)"]]


def test_rows_that_were_written_anew(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    trained(tmp_path / "models" / "dpo", run)
    shutil.copy(run / "kto" / "train.parquet", tmp_path / "x")
    row = pair(run, "alpha", "gamma")
    import pyarrow.parquet as pq

    table = pq.read_table(run / "dpo" / "train.parquet")
    pq.write_table(table.slice(0, 3), run / "dpo" / "train.parquet")
    found = told(prefgen, run, row["pair_id"])
    assert found["uses"][0]["saw"] == [
        "it was trained on rows that stood in this run then; they were written anew since"
    ]


def test_who_judged_the_model(prefgen: Runner, run: Path, tmp_path: Path) -> None:
    model = trained(tmp_path / "models" / "dpo", run)
    result = {"model": f"vllm/{model}/merged", "baseline": "openai/x", "win_rate": 71.25, "ci": [60, 80]}
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "evaluation.json").write_text(json.dumps({**result, "judge": "openai/j", "n": 80}))
    record(run, "evaluation", tmp_path / "evals")
    name = pair(run, "alpha", "gamma")["pair_id"]
    (use,) = told(prefgen, run, name)["uses"]
    assert use["evaluations"] == [
        {
            "path": str(tmp_path / "evals"),
            "side": "model",
            "win_rate": 71.25,
            "ci": [60, 80],
            "judge": "openai/j",
            "n": 80,
        }
    ]
    shown = " ".join(prefgen("why", run, name).out.split())
    assert "win rate 71.2% [60.0, 80.0] of 80 by openai/j" in shown


def test_rounds_before_and_after(prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path)
    assert prefgen("rlaif", "rlaif.yaml", "--out", "loop", "--quiet").code == 0
    second = rows(Path("loop/rounds/2/run/dpo/train.parquet"))[0]["pair_id"]
    found = told(prefgen, "loop", second)
    assert found["run"] == "loop/rounds/2/run"
    loop = found["loop"]
    assert (loop["round"], loop["before"]["round"], loop["after"]) == (2, 1, None)
    assert loop["this"]["wrote"] == "transformers/loop/rounds/1/model"
    assert loop["lineage"]["model"] == "rounds/2/model"
    first = rows(Path("loop/rounds/1/run/dpo/train.parquet"))[0]["pair_id"]
    shown = prefgen("why", "loop/rounds/1/run", first).out
    assert "Loop  round 1 of" in shown
    assert "the start" in shown
    assert "round 2: rounds/2/model wins" in shown
    ran = prefgen("why", "loop", "0" * 16)
    assert (ran.code, "loop/rounds/1/run" in ran.err) == (2, True)

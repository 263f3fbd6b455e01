"""`prefgen report DIR` for whatever prefgen writes, and what it says of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from looping import install, write_config
from page import HOSTILE, Page
from reporting import a_loops_manifest, a_training_report
from running import FAKES, Runner, some_prompts, write_prompts

from pipelines.rlaif import page as loop_page
from pipelines.training_report.page import write_training_report
from pipelines.training_report.sweep import write_sweep_page
from prefgen.files import write_json
from prefgen.run import RunDirectory


def rate(value: float) -> dict[str, Any]:
    return {"value": value, "ci": [value - 5, value + 5]}


def judged(win_rate: float, **more: Any) -> dict[str, Any]:
    """What `pipelines.evaluation.numbers` finds."""
    return {
        "n": 40, "n_failed": 0, "failures": {}, "win_rate": win_rate, "standard_error": 2.0,
        "ci": [win_rate - 4, win_rate + 4], "discrete_win_rate": win_rate, "wins": 30, "ties": 2, "losses": 8,
        "n_clusters": 40, "length_controlled_win_rate": win_rate - 6,
        "length_controlled_ci": [win_rate - 9, win_rate - 3], "length_model_mean": 90.0,
        "length_baseline_mean": 70.0, "style_controlled": None, "position": None, "significance": None,
        "power": None, "sequential": None, "judge": "test/judge", **more,
    }  # fmt: skip


def a_training(folder: Path) -> Path:
    folder.mkdir(parents=True)
    config = {"model": "m", "data": "d", "out": str(folder)}
    report = a_training_report(stage="reward", config=config, counts={"train_used": 4})
    write_json(folder / "training.json", report.model_dump(mode="json"))
    return folder


def page_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def assert_again(prefgen: Runner, folder: Path, name: str = "report.html") -> Page:
    """The page as it was written at first, and by the command once it is gone."""
    before = (folder / name).read_text(encoding="utf-8")
    (folder / name).unlink()
    again = prefgen("report", folder)
    assert again.code == 0, again.err
    assert (folder / name).read_text(encoding="utf-8") == before
    return Page(before)


def test_an_evaluation_has_every_rate_with_its_interval(tmp_path: Path, prefgen: Runner) -> None:
    human = {
        "n": 9, "human_win_rate": 60.0, "prediction_powered": rate(61.0) | {"effective_labels": 14.0},
        "rogan_gladen": rate(64.0) | {"sensitivity": 0.8, "specificity": 0.7},
    }  # fmt: skip
    difference = {"value": -0.1, "ci": [-0.2, 0.0]}
    task = {side: {"value": 50.0} for side in ("model", "baseline")} | {"difference": difference}
    tax = {
        "log_loss": {"n": 5, "baseline": {"value": 1.2}, "model": {"value": 1.1}, "difference": difference},
        "tasks": {HOSTILE: {"exact_match": task, "contains": {"difference": None}}},
    }  # fmt: skip
    against = {"annotations": HOSTILE, "n": 9, "difference": 2.0, "ci": [-1.0, 5.0], "p_value": 0.2}
    position = {"n_both_orders": 40, "consistency": 0.9, "first_slot_rate": 0.6}
    found = judged(
        70.0, style_controlled=rate(66.0), human=human, against=against, alignment_tax=tax, model=HOSTILE,
        baseline="vllm/old", warnings=[HOSTILE], position=position,
        significance={"p_value": 0.01},
        power={"detectable_difference": 6.0, "difference": 5, "prompts_needed": 99},
    )  # fmt: skip
    write_json(tmp_path / "evaluation.json", found)
    assert prefgen("report", tmp_path).code == 0
    page = page_of(tmp_path / "report.html")
    assert {"script", "img"}.isdisjoint(page.tags)
    for words in (
        "the model is better in the judge’s eyes",
        "win rate 70.0% (66.0 to 74.0)",
        "each prompt won or lost 70.0%",
        "at equal length 64.0% (61.0 to 67.0)",
        "at equal style 66.0% (61.0 to 71.0)",
        "with people’s labels 61.0% (56.0 to 66.0)",
        "errors taken out 64.0% (59.0 to 69.0)",
        "difference, points +2.0 (−1.0 to +5.0)",
        "log-loss, nats a token 1.2000 1.1000 −0.1000 (−0.2000 to 0.0000)",
        "exact match 50.0% 50.0% −0.1 (−0.2 to 0.0)",
        "prompts to find 5 points 99",
    ):
        assert words in page.words


def test_an_interval_that_the_test_does_not_bear_out_is_not_believed(tmp_path: Path, prefgen: Runner) -> None:
    """Of two prompts the bootstrap leaves 50% out, and chance alone does that half of the time."""
    write_json(tmp_path / "evaluation.json", judged(85.0, significance={"p_value": 0.5}))
    told = prefgen("report", tmp_path)
    assert "p = 0.5: how often chance alone would make as large a difference" in told.out
    assert "not sure which of the two is better" in page_of(tmp_path / "report.html").words


def test_a_round_of_a_loop_and_the_loop(
    tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install(monkeypatch)
    config = write_config(tmp_path, prompts=4, rounds=1)
    assert prefgen("rlaif", config, "--out", tmp_path / "loop").code == 0
    page = assert_again(prefgen, tmp_path / "loop")
    assert "1 round, the best is" in page.words
    assert prefgen("report", tmp_path / "loop" / "rounds" / "1").code == 0
    assert "Win rate" in page_of(tmp_path / "loop" / "rounds" / "1" / "report.html").words


def test_an_alarm_of_a_loop_is_read_first(tmp_path: Path) -> None:
    manifest = a_loops_manifest("Answers grow longer")
    for raised in (True, False):
        loop_page.write_page(RunDirectory(tmp_path), manifest)
        words = page_of(tmp_path / "report.html").words
        assert (words.index("Alarms") < words.index("From round to round")) is raised
        manifest["rounds"][0]["alarms"] = []


def quality(accuracy: float) -> dict[str, Any]:
    return {
        "n": 30, "accuracy": {"value": accuracy, "ci": [accuracy - 0.1, accuracy + 0.1]}, "log_loss": 0.5,
        "ece": 0.04, "ece_noise_floor": 0.05, "temperature": 1.5, "length_correlation": None,
    }  # fmt: skip


def test_an_ensemble_shows_its_members_and_writes_their_pages(tmp_path: Path, prefgen: Runner) -> None:
    folder = a_training(tmp_path / "rm")
    for number in (1, 2, 10):
        a_training(folder / f"member-{number}")
    ways = {"mean": quality(0.8), "worst": quality(0.75), "uncertainty": quality(0.78)}
    write_json(folder / "heldout.json", ways | {"members": [quality(0.7), quality(0.72), quality(0.71)]})
    write_json(folder / "ensemble.json", {})
    write_training_report(folder)
    page = assert_again(prefgen, folder)
    assert "all, their mean 80.0% (70.0 to 90.0)" in page.words
    assert "member 3 71.0% (61.0 to 81.0)" in page.words
    assert "member-1 member-2 member-10" in page.words
    links = [value for name, value in page.attributes if name == "href"]
    assert links == [f"member-{number}/report.html" for number in (1, 2, 10)]
    assert all((folder / link).is_file() for link in links)
    assert "all, their mean 0.50 0.04 (0.05) 1.50 –" in page.words


def test_one_reward_model_shows_what_it_is_worth(tmp_path: Path, prefgen: Runner) -> None:
    folder = a_training(tmp_path / "rm")
    write_json(folder / "heldout.json", quality(0.8))
    write_training_report(folder)
    assert "reward model 80.0% (70.0 to 90.0)" in assert_again(prefgen, folder).words
    write_json(folder / "heldout.json", dict.fromkeys(quality(0.8)) | {"n": 0})
    assert prefgen("report", folder).code == 0
    assert "No held-out pairs" in page_of(folder / "report.html").words


@pytest.mark.parametrize("win_rate", [64.0, None])
def test_a_sweep_compares_its_betas(win_rate: float | None, tmp_path: Path, prefgen: Runner) -> None:
    entries = [
        {
            "beta": beta, "folder": f"elsewhere/beta-{beta:g}", "loss": 0.6, "margin": 0.2,
            "margin_nats": 2.0,
            "accuracy": 0.75, "kl": 3.0, "kl_standard_error": 0.1, "win_rate": win_rate,
            "win_rate_ci": win_rate and [win_rate - 6, win_rate + 6],
        }
        for beta in (0.03, 0.1)
    ]  # fmt: skip
    found = {
        "n_prompts": 12, "kl_estimator": "k", "judge": win_rate and HOSTILE,
        "note": None if win_rate else "no judge",
        "config": {"model": HOSTILE, "data": HOSTILE, "lora": True}, "betas": entries,
    }  # fmt: skip
    a_training(tmp_path / "beta-0.1")
    write_sweep_page(tmp_path, found)
    write_json(tmp_path / "sweep.json", found)
    page = assert_again(prefgen, tmp_path)
    assert {"script", "img"}.isdisjoint(page.tags)
    assert "DPO with 2 values of β" in page.words
    assert "β = 0.03 0.600 +0.200 +2.00 75% 3.00 ± 0.10" in page.words
    told = "β = 0.1, KL 3.00 64.0% (58.0 to 70.0)" if win_rate else "Not known: no judge."
    assert told in page.words
    assert [value for name, value in page.attributes if name == "href"] == ["beta-0.1/report.html"]
    assert (tmp_path / "beta-0.1" / "report.html").is_file()


def a_quickstart(prefgen: Runner, folder: Path) -> Path:
    done = prefgen("generate", some_prompts(folder / "p.jsonl"), *FAKES, "--out", folder / "run")
    assert done.code == 0, done.err
    a_training(folder / "models" / "dpo")
    write_training_report(folder / "models" / "dpo")
    rubric = {"n": 40, "win_rate": 80.0, "ci": [75.0, 85.0], "pass_rate_before": 3.0, "pass_rate_after": 13.0}
    write_json(folder / "rubric.json", rubric | {"stages": {"dpo": rubric}})
    write_json(
        folder / "evaluation.json", judged(82.0) | {"baseline": "sft", "stages": {"dpo": judged(82.0)}}
    )
    write_json(folder / "judge.json", {"n": 20, "agreement": 0.9, "ci": [0.8, 1.0]})
    write_prompts(folder / "samples.jsonl", [{"id": "1", "prompt": HOSTILE, "sft": HOSTILE, "dpo": "Sorry!"}])
    return folder


def test_a_quickstart_has_an_index_of_what_it_made(tmp_path: Path, prefgen: Runner) -> None:
    folder = a_quickstart(prefgen, tmp_path)
    ran = prefgen("report", folder)
    assert ran.code == 0, ran.err
    assert "DPO over SFT on 40 held-out prompts" in ran.out
    page = page_of(folder / "report.html")
    assert {"script", "img"}.isdisjoint(page.tags)
    assert "DPO: 80% over the start, by the rubric" in page.words
    assert "DPO, by the judge 82.0% (78.0 to 86.0)" in page.words
    assert "agrees with 90% of 20 held-out labels" in page.words
    links = [value for name, value in page.attributes if name == "href"]
    assert links == ["run/report.html", "models/dpo/report.html"]


def labels(path: Path) -> Path:
    rows = [
        {"id": f"i{n}", "prompt": f"Question {n}?", "response_a": " ".join("abcdefgh"[: 2 + n % 6]),
         "response_b": "a b c d", "label": "ab"[n % 6 < 2]}
        for n in range(40)
    ]  # fmt: skip
    return write_prompts(path, rows)


def test_a_calibration_and_an_audit_are_written_again(tmp_path: Path, prefgen: Runner) -> None:
    told, out = labels(tmp_path / "l.jsonl"), tmp_path / "c"
    assert prefgen("calibrate", told, "--judge", "scripted/hasty", "--out", out).code == 0
    assert "not where they were" not in assert_again(prefgen, out).words
    rows = [json.loads(line) for line in told.read_text().splitlines()]
    both = write_prompts(tmp_path / "both.jsonl", (row | {"verdict": "a"} for row in rows))
    assert prefgen("calibrate", both, "--verdicts", both, "--out", tmp_path / "one").code == 0
    assert "not where they were" not in assert_again(prefgen, tmp_path / "one").words
    out = out.rename(tmp_path / "moved")
    assert prefgen("report", out).code == 0
    assert "not where they were" not in page_of(out / "report.html").words
    told.write_text(told.read_text().replace("Question 1?", "Question one?"))
    assert prefgen("report", out).code == 0
    assert (
        "The labels or verdicts are not where they were, or not what they were"
        in page_of(out / "report.html").words
    )
    run = tmp_path / "run"
    assert prefgen("generate", some_prompts(tmp_path / "p.jsonl"), *FAKES, "--out", run).code == 0
    assert prefgen("audit", run).code == 0
    assert_again(prefgen, run / "audit", "audit.html")


def test_a_calibrated_run_tells_of_the_judge_and_people(tmp_path: Path, prefgen: Runner) -> None:
    out, run = tmp_path / "c", tmp_path / "run"
    assert (
        prefgen("calibrate", labels(tmp_path / "l.jsonl"), "--judge", "scripted/hasty", "--out", out).code
        == 0
    )
    done = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl"),
        "--policy", "scripted/writer", "--judge", "scripted/hasty",
        "--calibration", out / "calibration.json", "--out", run, "--planted", 0, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    measured = json.loads((out / "calibration.json").read_text())["agreement"]
    assert done.result["calibration"]["agreement"] == measured
    assert "the judge says what people say" in page_of(run / "report.html").words


def test_what_is_no_directory_of_ours_says_what_was_looked_for(tmp_path: Path, prefgen: Runner) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    (tmp_path / "f.json").write_text("{}")
    for name, words in {
        "mine": "not a run directory",
        "f.json": "a file, not a run directory",
        "gone": "no such directory",
    }.items():
        refused = prefgen("report", tmp_path / name)
        assert refused.code == 2
        assert words in refused.err
        for looked_for in ("manifest.json", "training.json", "sweep.json", "audit.json", "quickstart"):
            assert looked_for in refused.err
    assert "seen: notes.txt" in prefgen("report", tmp_path / "mine").err


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_broken_file_is_named(content: str, tmp_path: Path, prefgen: Runner) -> None:
    (tmp_path / "manifest.json").write_text(content)
    refused = prefgen("report", tmp_path)
    assert refused.code == 2
    assert "manifest.json" in refused.err


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path, prefgen: Runner) -> None:
    run = tmp_path / "run"
    assert prefgen("generate", some_prompts(tmp_path / "p.jsonl"), *FAKES, "--out", run).code == 0
    (run / "manifest.json").unlink()
    refused = prefgen("report", run)
    assert refused.code == 2
    assert "--resume" in refused.err

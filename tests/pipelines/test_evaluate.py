"""`prefgen evaluate` as users run it, with scripted models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page import Page
from running import Runner, write_prompts

JUDGE = ("--judge", "scripted/judge")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    return write_prompts(path, rows)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def prompts_of(folder: Path, count: int, **columns: Any) -> Path:
    """`columns`: value of each prompt from its number."""
    return lines(
        folder / "prompts.jsonl",
        (
            {"id": f"q{n}", "prompt": f"Question {n}?"} | {name: value(n) for name, value in columns.items()}
            for n in range(count)
        ),
    )


def answers_of(path: Path, sizes: Iterable[int | None]) -> Path:
    """Answers of so many words; the scripted judge's log-odds are the difference in words."""
    return lines(
        path,
        (
            {"id": f"q{n}", "response": None if size is None else " ".join(WORDS[:size])}
            for n, size in enumerate(sizes)
        ),
    )


@pytest.fixture
def sides(tmp_path: Path) -> tuple[object, ...]:
    """Forty prompts; the model writes 1 to 8 words, the baseline 4."""
    prompts = prompts_of(tmp_path, 40)
    model = answers_of(tmp_path / "model.jsonl", (1 + n % 8 for n in range(40)))
    baseline = answers_of(tmp_path / "baseline.jsonl", (4 for _ in range(40)))
    return prompts, "--model", model, "--baseline", baseline


def test_the_keys_of_the_contract(tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]) -> None:
    done = prefgen("evaluate", *sides, *JUDGE, "--out", tmp_path / "e", "--json")
    assert done.code == 0, done.err
    found = done.result
    assert found == json.loads((tmp_path / "e/evaluation.json").read_text())
    # Log-odds are -3 to 4 words, each five times: the slot's half nat cancels.
    preference = np.array([1 / (1 + math.exp(3 - n % 8)) for n in range(40)])
    assert found["win_rate"] == pytest.approx(100 * preference.mean(), abs=1e-6)
    assert found["standard_error"] == pytest.approx(100 * preference.std(ddof=1) / math.sqrt(40), abs=1e-6)
    assert found["discrete_win_rate"] == pytest.approx(100 * (20 + 2.5) / 40)
    assert (found["wins"], found["ties"], found["losses"]) == (20, 5, 15)
    assert (found["n"], found["n_failed"], found["judge"]) == (40, 0, "scripted/judge")
    assert found["ci"][0] < found["win_rate"] < found["ci"][1]
    assert found["length_baseline_mean"] == len("one two three four")
    assert 0 < found["length_controlled_win_rate"] < 100
    assert found["style_controlled"]["weights"]["length"] > 1
    # A word outweighs the half nat for the first slot, and the five equal texts are not asked about.
    assert found["position"] == {
        "n_both_orders": 35,
        "consistency": 1.0,
        "first_slot_rate": 0.5,
    }
    assert found["power"]["prompts_needed"] > 40
    manifest = json.loads((tmp_path / "e/manifest.json").read_text())
    assert manifest["models"]["judge"]["spec"] == "scripted/judge"
    assert len(manifest["inputs"]) == 3


def test_annotations_give_the_same_numbers(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    first = prefgen("evaluate", *sides, *JUDGE, "--out", tmp_path / "e", "--json").result
    again = prefgen("evaluate", "--annotations", tmp_path / "e/annotations.jsonl", "--json")
    assert again.code == 0, again.err
    assert again.result == {name: first[name] for name in again.result} | {"judge": None}
    rows = read(tmp_path / "e/annotations.jsonl")
    assert {"id", "preference", "length_model", "length_baseline"} <= rows[0].keys()


def test_recomputed_results_are_written_where_asked(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    run = tmp_path / "e"
    prefgen("evaluate", *sides, *JUDGE, "--out", run)
    told = prefgen("evaluate", "--annotations", run / "annotations.jsonl", "--out", run)
    assert told.code == 2
    assert "--overwrite" in told.err
    before = (run / "annotations.jsonl").read_bytes()
    assert (
        prefgen("evaluate", "--annotations", run / "annotations.jsonl", "--out", tmp_path / "new").code == 0
    )
    assert (tmp_path / "new/evaluation.json").is_file()
    assert (run / "annotations.jsonl").read_bytes() == before


def test_the_numbers_of_the_leaderboard(tmp_path: Path, prefgen: Runner) -> None:
    """Win rate, standard error and discrete win rate as AlpacaEval defines them, by pandas."""
    import pandas as pd

    random = np.random.default_rng(1)
    preference = pd.Series(np.round(random.random(805), 2))
    rows = [
        {"id": n, "preference": value, "length_model": int(a), "length_baseline": int(b)}
        for n, (value, a, b) in enumerate(
            zip(preference, random.integers(1, 900, 805), random.integers(1, 900, 805), strict=True)
        )
    ]
    found = prefgen("evaluate", "--annotations", lines(tmp_path / "a.jsonl", rows), "--json").result
    assert found["win_rate"] == pytest.approx(preference.mean() * 100, abs=1e-6)
    assert found["standard_error"] == pytest.approx(preference.sem() * 100, abs=1e-6)
    discrete = (preference > 0.5).astype(float) + 0.5 * (preference == 0.5)
    assert found["discrete_win_rate"] == pytest.approx(discrete.mean() * 100, abs=1e-6)


def test_models_answer_for_themselves(tmp_path: Path, prefgen: Runner) -> None:
    prompts = prompts_of(tmp_path, 6)
    baseline = answers_of(tmp_path / "b.jsonl", [4] * 6)
    done = prefgen(
        "evaluate", prompts, "--model", "scripted/writer", "--baseline", baseline, *JUDGE,
        "--out", tmp_path / "e", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert all(
        row["response_model"].startswith("Consider:") for row in read(tmp_path / "e/annotations.jsonl")
    )


def test_a_finished_evaluation_is_not_paid_again(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    command = ("evaluate", *sides, *JUDGE, "--out", tmp_path / "e", "--json")
    first = prefgen(*command).result
    refused = prefgen(*command)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert prefgen(*command, "--resume").result == first
    assert prefgen(*command, "--overwrite").result == first
    manifest = json.loads((tmp_path / "e/manifest.json").read_text())
    assert manifest["usage"]["requests"] == 0


def test_a_budget_stops_it_and_resume_goes_on(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    command = ("evaluate", *sides, *JUDGE, "--out", tmp_path / "e", "--json")
    stopped = prefgen(*command, "--max-requests", 10)
    assert (stopped.code, (tmp_path / "e/evaluation.json").exists()) == (4, False)
    done = prefgen(*command, "--resume")
    assert done.code == 0, done.err
    usage = json.loads((tmp_path / "e/manifest.json").read_text())["usage"]
    # Seventy questions in all (five ties are not asked), ten of them paid before.
    assert (usage["requests"], usage["cached_requests"]) == (70, 10)


def test_too_many_failures_end_it(tmp_path: Path, prefgen: Runner) -> None:
    prompts = prompts_of(tmp_path, 10)
    model = answers_of(tmp_path / "m.jsonl", [5, None, 5, 5, 5, 5, 5, 5, 5, 5])
    baseline = answers_of(tmp_path / "b.jsonl", [4] * 10)
    command = ("evaluate", prompts, "--model", model, "--baseline", baseline, *JUDGE, "--out", tmp_path / "e")
    done = prefgen(*command)
    assert done.code == 3
    assert "no_answer: 1" in done.err
    assert not (tmp_path / "e/evaluation.json").exists()
    assert [row["id"] for row in read(tmp_path / "e/annotations.jsonl") if row["preference"] is None] == [
        "q1"
    ]
    allowed = prefgen(*command, "--resume", "--max-failure-share", 0.2, "--json")
    assert allowed.code == 0, allowed.err
    assert (allowed.result["n"], allowed.result["failures"]) == (9, {"no_answer": 1})


def test_prompts_of_one_cluster_are_drawn_together(tmp_path: Path, prefgen: Runner) -> None:
    widths = {}
    for name, columns in (("alone", {}), ("together", {"cluster": lambda n: f"c{n // 10}"})):
        folder = tmp_path / name
        folder.mkdir()
        prompts = prompts_of(folder, 40, **columns)
        model = answers_of(folder / "m.jsonl", (8 if n // 10 % 2 else 1 for n in range(40)))
        baseline = answers_of(folder / "b.jsonl", [4] * 40)
        found = prefgen(
            "evaluate", prompts, "--model", model, "--baseline", baseline, *JUDGE,
            "--out", folder / "e", "--json",
        ).result  # fmt: skip
        widths[name] = found["ci"][1] - found["ci"][0]
        assert found["n_clusters"] == (4 if columns else 40)
    assert widths["together"] > 2 * widths["alone"]


def test_difficulty_goes_into_length_control(tmp_path: Path, prefgen: Runner) -> None:
    prompts = prompts_of(tmp_path, 16, difficulty=lambda n: n / 10)
    model = answers_of(tmp_path / "m.jsonl", (1 + n % 8 for n in range(16)))
    baseline = answers_of(tmp_path / "b.jsonl", (1 + n // 2 for n in range(16)))
    command = ("evaluate", prompts, "--model", model, "--baseline", baseline, *JUDGE, "--json")
    found = prefgen(*command, "--out", tmp_path / "e").result
    assert [row["difficulty"] for row in read(tmp_path / "e/annotations.jsonl")] == [
        n / 10 for n in range(16)
    ]
    stripped = [
        {name: value for name, value in row.items() if name != "difficulty"}
        for row in read(tmp_path / "e/annotations.jsonl")
    ]
    without = prefgen("evaluate", "--annotations", lines(tmp_path / "s.jsonl", stripped), "--json").result
    assert found["win_rate"] == without["win_rate"]
    assert abs(found["length_controlled_win_rate"] - without["length_controlled_win_rate"]) > 0.01


def test_a_large_effect_of_length_is_said_aloud(tmp_path: Path, prefgen: Runner) -> None:
    prompts = prompts_of(tmp_path, 30)
    model = answers_of(tmp_path / "m.jsonl", (5 + n % 4 for n in range(30)))
    baseline = answers_of(tmp_path / "b.jsonl", (4 + n % 3 for n in range(30)))
    done = prefgen(
        "evaluate", prompts, "--model", model, "--baseline", baseline, *JUDGE,
        "--out", tmp_path / "e", "--json",
    )  # fmt: skip
    assert done.result["win_rate"] - done.result["length_controlled_win_rate"] > 10
    assert "at equal length" in done.err
    assert any("at equal length" in text for text in done.result["warnings"])


def test_it_stops_when_it_is_clear(tmp_path: Path, prefgen: Runner) -> None:
    prompts = prompts_of(tmp_path, 100)
    model = answers_of(tmp_path / "m.jsonl", [8] * 100)
    baseline = answers_of(tmp_path / "b.jsonl", (1 + n % 4 for n in range(100)))
    command = ("evaluate", prompts, "--model", model, "--baseline", baseline, *JUDGE, "--json")
    done = prefgen(*command, "--stop-when-clear", "--out", tmp_path / "e")
    assert done.code == 0, done.err
    found, rows = done.result, read(tmp_path / "e/annotations.jsonl")
    assert (found["n"], found["n_prompts"], len(rows)) == (20, 100, 20)
    assert found["sequential"]["clear_after"] <= 20
    assert found["sequential"]["ci"] == found["ci"]
    assert found["ci"][0] > 50
    assert found["significance"] is None
    # Not the first twenty of the file: they might be alike.
    assert [row["id"] for row in rows] != [f"q{n}" for n in range(20)]
    again = prefgen(
        "evaluate", "--annotations", tmp_path / "e/annotations.jsonl", "--stop-when-clear", "--json"
    )
    assert again.result["sequential"] == found["sequential"]


def test_what_is_not_clear_is_judged_to_the_end(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    found = prefgen("evaluate", *sides, *JUDGE, "--stop-when-clear", "--out", tmp_path / "e", "--json").result
    assert (found["n"], found["sequential"]["clear_after"]) == (40, None)
    assert found["ci"][0] < 50 < found["ci"][1]


def test_two_evaluations_on_the_same_prompts(tmp_path: Path, prefgen: Runner) -> None:
    """Better by .1 everywhere: certain, though each alone is far from it."""
    preference = np.random.default_rng(1).uniform(0, 0.9, 30)
    files = [
        lines(
            tmp_path / f"{name}.jsonl",
            [
                {"id": n, "preference": value + gain, "length_model": 1, "length_baseline": 1}
                for n, value in enumerate(preference)
            ],
        )
        for name, gain in (("new", 0.1), ("old", 0.0))
    ]
    found = prefgen("evaluate", "--annotations", files[0], "--against", files[1], "--json").result["against"]
    assert found["difference"] == pytest.approx(10)
    assert found["ci"] == pytest.approx([10, 10])
    assert found["p_value"] < 0.001
    assert (found["n"], found["n_not_shared"]) == (30, 0)


def test_evaluations_of_other_prompts_cannot_be_compared(tmp_path: Path, prefgen: Runner) -> None:
    row = {"preference": 0.5, "length_model": 1, "length_baseline": 1}
    here, there = (lines(tmp_path / f"{name}.jsonl", [{"id": name} | row]) for name in ("here", "there"))
    refused = prefgen("evaluate", "--annotations", here, "--against", there)
    assert refused.code == 2
    assert "no prompt has a judgment here" in refused.err


def test_the_labelling_judge_is_warned_of(tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]) -> None:
    run = tmp_path / "run"
    made = prefgen("generate", sides[0], "--policy", "scripted/writer", *JUDGE, "--planted", 0, "--out", run)
    assert made.code == 0, made.err
    done = prefgen("evaluate", *sides, *JUDGE, "--trained-on", run, "--out", tmp_path / "e")
    assert done.code == 0
    assert "also made the labels" in done.err
    refused = prefgen("evaluate", *sides, *JUDGE, "--trained-on", tmp_path, "--out", tmp_path / "e2")
    assert refused.code == 2
    assert not (tmp_path / "e2").exists()


def test_a_judge_of_the_models_family_is_warned_of() -> None:
    from pipelines.evaluation.config import EvaluateConfig
    from pipelines.evaluation.evaluate import warnings_about

    config = EvaluateConfig(
        prompts=Path("p.jsonl"),
        model="vllm/org/Qwen3-8B-tuned",
        baseline="answers.jsonl",
        judge="openai/qwen-max@http://127.0.0.1:1/v1",
        out=Path("e"),
    )
    assert [text for text in warnings_about(config) if "own family" in text and "the model" in text]
    other = config.model_copy(update={"judge": ("anthropic/claude-x",)})
    assert not list(warnings_about(other))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give exactly one of PROMPTS and --annotations"),
        (("--annotations", "a.jsonl", *JUDGE), "--judge needs PROMPTS"),
        (("p.jsonl", "--annotations", "a.jsonl"), "give exactly one of PROMPTS and --annotations"),
        (("p.jsonl", "--model", "scripted/writer", *JUDGE, "--out", "e"), "missing --baseline"),
        (("p.jsonl", "--model", "a.jsonl", "--baseline", "a.jsonl", *JUDGE, "--out", "e"), "are the same"),
        (("p.jsonl", "--model", "a.jsonl", "--baseline", "b.jsonl", "--out", "e"), "exactly one of --judge"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...], said: str, prefgen: Runner) -> None:
    refused = prefgen("evaluate", *options)
    assert refused.code == 2
    assert said in refused.err


def test_stopping_needs_independent_prompts(tmp_path: Path, prefgen: Runner) -> None:
    prompts = prompts_of(tmp_path, 4, cluster=lambda n: "one")
    sides = [answers_of(tmp_path / f"{name}.jsonl", [4] * 4) for name in ("m", "b")]
    refused = prefgen(
        "evaluate", prompts, "--model", sides[0], "--baseline", sides[1], *JUDGE,
        "--stop-when-clear", "--out", tmp_path / "e",
    )  # fmt: skip
    assert refused.code == 2
    assert "independent prompts" in refused.err


def test_what_is_read_is_never_overwritten(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    command = ("evaluate", *sides, *JUDGE, "--out", tmp_path / "e")
    prefgen(*command)
    refused = prefgen(*command, "--against", tmp_path / "e/annotations.jsonl", "--overwrite")
    assert refused.code == 2
    assert "name another directory" in refused.err
    assert len(read(tmp_path / "e/annotations.jsonl")) == 40


@pytest.mark.parametrize("way", ["pointwise", "listwise"])
def test_other_ways_of_judging(way: str, tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]) -> None:
    done = prefgen("evaluate", *sides, *JUDGE, "--judging", way, "--out", tmp_path / "e", "--json")
    assert done.code == 0, done.err
    assert (done.result["wins"], done.result["ties"], done.result["losses"]) == (20, 5, 15)


def test_its_page_is_written_with_it_and_again(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    done = prefgen("evaluate", *sides, *JUDGE, "--out", tmp_path / "e", "--json")
    path = tmp_path / "e" / "report.html"
    page = Page(path.read_text())
    path.unlink()
    again = prefgen("report", tmp_path / "e", "--json")
    assert (again.code, again.result) == (0, done.result)
    assert path.read_text() == page.source
    low, high = done.result["ci"]
    for words in (
        f"Win rate {done.result['win_rate']:.1f}% ({low:.1f} to {high:.1f})",
        "wins 20 ties 5 losses 15",
        "it is not sure which of the two is better",
        "each prompt won or lost 56.2% (",
        "at equal length",
        "Clearest for the model the judge prefers the model with a probability of",
        "Hardest to tell apart the judge prefers the model with a probability of 50%",
    ):
        assert words in page.words
    told = next(value for name, value in page.attributes if name == "aria-label")
    assert told.startswith(f"Win rates: win rate {done.result['win_rate']:.1f}% ({low:.1f} to {high:.1f}); ")


def test_recomputed_annotations_have_a_page_too(
    tmp_path: Path, prefgen: Runner, sides: tuple[object, ...]
) -> None:
    rows = [
        {
            "id": n,
            "preference": None if n == 9 else n % 3 / 2,
            "length_model": 9,
            "length_baseline": 7 + n % 2,
        }
        for n in range(10)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps(row | {"failure": "timeout", "prompt": "Why?"}) + "\n" for row in rows)
    )
    assert prefgen("evaluate", "--annotations", path, "--out", tmp_path / "again").code == 0
    page = Page((tmp_path / "again" / "report.html").read_text())
    assert "only 9 independent prompts" in page.words
    assert "unknown" not in page.words
    assert "By cause cause prompts no answer in time 1 no answer in time: one prompt Why?" in page.words


def test_a_landslide_does_not_make_a_close_race_easy_to_see(tmp_path: Path, prefgen: Runner) -> None:
    """Nearly all wins: around an even match such verdicts would be 0 or 1, and 5 points take 785 prompts."""
    rows = [
        {"id": n, "preference": 0.999, "length_model": 10 + n % 3, "length_baseline": 10} for n in range(30)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = prefgen("evaluate", "--annotations", path, "--json")
    assert ran.code == 0, ran.err
    assert ran.result["power"]["prompts_needed"] == pytest.approx(785, rel=0.05)

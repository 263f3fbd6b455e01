"""Runs made of judgments that were written down by hand, by the code that makes all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from page import Page

from pipelines.generate_config import GenerateConfig
from pipelines.outcome import Pairing
from pipelines.publish import Publisher, finish_run
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.messages import user
from prefgen.planted import PlantedResult
from prefgen.prompt import Prompt
from prefgen.rows import CarriedColumns
from prefgen.run import RunDirectory
from prefgen.sampling import Sampled
from trainers.report import ReloadCheck, TrainingReport


def said(
    prompt: str,
    a: Candidate,
    b: Candidate | None,
    odds: float | None,
    order: Any = None,
    raw: str = "",
    judge: str = "test/judge",
    principle: str | None = None,
) -> JudgeResult:
    """A judgment with these log-odds, or a failure for None."""
    told = Provenance(judge, "served", "t", "c0ffee", principle, order, None, "score")
    other = None if b is None else b.id
    if odds is None:
        return JudgeFailure(prompt, a.id, other, "parse_failure", told, raw)
    return Judgment(prompt, a.id, other, odds, told, raw)


Made = tuple[Prompt, Sampled, Sequence[JudgeResult]]


def versus(
    name: str, odds: tuple[float | None, float | None], lengths: tuple[int, int] = (30, 10), raw: str = ""
) -> Made:
    """One prompt, two responses, and the log-odds that the first wins in the orders ab and ba."""
    a, b = (Candidate(name, letter * n, f"test/{letter}", 0) for letter, n in zip("xy", lengths, strict=True))
    results = [said(name, a, b, value, order, raw) for value, order in zip(odds, ("ab", "ba"), strict=True)]
    return Prompt(name, user(f"Question {name}?")), Sampled((a, b)), results


def publish(
    folder: Path,
    made: Sequence[Made],
    planted: Sequence[PlantedResult] = (),
    models: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
    **options: Any,
) -> Page:
    """A run directory of what was made, by the code that makes all of them; its report."""
    given = {"judge": "test/judge"} | options
    config = GenerateConfig(prompts=Path("p.jsonl"), out=folder, policy=("test/x", "test/y"), **given)
    with RunDirectory.start(folder, config.model_dump(mode="json")) as run:
        publisher = Publisher(run, config.format, CarriedColumns())
        for prompt, sampled, results in made:
            outcome = Pairing(config.rule).outcome(prompt, sampled, results)
            publisher.append(replace(outcome, planted=planted))
        publisher.publish_tables()
        entry = {"spec": "test/judge", "served": "judge-2026", "capabilities_missing": {"logprobs": "no"}}
        manifest = {
            "prefgen_version": "1.2.3",
            "config": config.model_dump(mode="json"),
            "seed": 7,
            "models": models or {"policy": [{"spec": "test/x", "served": "x-1"}], "judge": entry},
            "weighing": {"principles": {}, "combine": "mean", "judges": {}},
            "judge": " + ".join(config.judges),
            "usage": usage or some_usage(cost_usd=None),
            "calibration": None,
            "timings": {"sample_and_judge": 300.0},
        }
        finish_run(publisher, config.test_share, manifest)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def some_usage(**values: Any) -> dict[str, Any]:
    names = ("requests", "cached_requests", "input_tokens", "output_tokens", "retries", "rate_limited")
    part = {"cost_usd": 0.0}
    return dict.fromkeys(names, 0) | part | {"by_role": {"policy": part, "judge": part}} | values


def jury(name: str, odds: Sequence[tuple[str, str | None, float, float]]) -> Made:
    """One prompt of two responses: (judge, principle, log-odds in the order ab, in ba)."""
    a, b = Candidate(name, "x" * 30, "test/x", 0), Candidate(name, "y" * 10, "test/y", 0)
    results: list[JudgeResult] = [
        said(name, a, b, value, order, judge=judge, principle=principle)
        for judge, principle, *both in odds
        for value, order in zip(both, ("ab", "ba"), strict=True)
    ]
    return Prompt(name, user(f"Question {name}?")), Sampled((a, b)), results


def a_training_report(**given: Any) -> TrainingReport:
    """Of three steps, of which nothing is known but what is given."""
    nothing = dict.fromkeys(("first_loss", "first_eval", "last_eval", "frozen_sha256"))
    empty: dict[str, Any] = {name: {} for name in ("inputs", "settings", "counts", "versions")}
    known = {"warnings": [], "steps": 3, "stopped_early": False, "seconds": 1.0}
    reload = ReloadCheck(rows=0, max_difference=0.0)
    return TrainingReport(**nothing | empty | known | {"reload": reload} | given)


def a_loops_manifest(words: str) -> dict[str, Any]:
    """Of one round, with these words wherever a text may be."""
    judged = {"win_rate": 50.0, "ci": [40.0, 60.0]}
    evaluation = judged | {
        "n": 10, "last": judged, "training_judge": judged, "length_ratio": 1.0,
    }  # fmt: skip
    item = {
        "round": 1, "run": "rounds/1", "counts": {"pairs": 3}, "evaluation": evaluation,
        "alarms": [{"round": 1, "text": words, "remedy": words}], "human_check": None,
        "training": {"steps": 3}, "policy": {"after": {"loaded": words}},
        "expected_label_precision": None, "rubric": None, "mean_margin": 1.0, "mean_confidence": 0.9,
    }  # fmt: skip
    return {
        "rounds": [item], "best": {"round": 1}, "stopped": True, "seed": words, "start": None,
        "models": {"policy": words, "judge": words, "held_out_judge": words},
        "config": {"train": {"stage": words}},
        "usage": {"requests": 1, "cached_requests": 0, "cost_usd": None},
    }  # fmt: skip

"""What a round is worth: its answers to held-out prompts against the start's and the last round's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from judges.intervals import Array, Estimate
from judges.judge import Judge
from pipelines.evaluation.annotate import compare
from pipelines.evaluation.annotations import as_lines, read_annotations
from pipelines.evaluation.answers import FileSide, answer, read_answers
from pipelines.evaluation.evaluate import Asked, check_failures
from pipelines.evaluation.numbers import caveats, evaluation
from pipelines.rlaif.config import HeldOut
from pipelines.rlaif.decide import Round
from pipelines.rlaif.places import RoundPlace
from prefgen.candidate import Candidate
from prefgen.completion import Sampling
from prefgen.files import json_lines, write_json, write_whole
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.run import RunDirectory
from prefgen.sampling import SamplingPlan

Answers = Sequence[Candidate | None]


@dataclass(frozen=True, slots=True)
class Judges:
    """`held_out` decides what a round is worth; `training` made its labels, and is asked for its view."""

    held_out: Judge
    training: Judge


@dataclass(frozen=True, slots=True)
class Measure:
    """Held-out prompts, and the loop's directory, which counts attempts."""

    config: HeldOut
    asked: Sequence[Asked]
    run: RunDirectory

    @property
    def prompts(self) -> list[Prompt]:
        return [item.prompt for item in self.asked]

    async def compare(self, judge: Judge, ours: Answers, theirs: Answers, path: Path) -> dict[str, Any]:
        """Writes annotations to `path` and returns what `evaluation.json` says of them. Raises GateError."""
        found = await compare(judge, self.prompts, ours, theirs)
        annotations = [
            replace(item, difficulty=asked.difficulty, cluster=asked.cluster)
            for item, asked in zip(found, self.asked, strict=True)
        ]
        write_whole(path, as_lines(annotations))
        check_failures(annotations, self.run, self.config.max_failure_share)
        return evaluation(annotations, judge.name, seed=self.config.seed)


async def answers_of(model: RecordedModel, measure: Measure, path: Path) -> None:
    """Asks a model the held-out prompts and writes `path`; nothing where it is there."""
    if path.exists():
        return
    config = measure.config
    plan = SamplingPlan(1, Sampling(config.max_tokens, config.temperature, 1.0), config.seed, config.system)
    said = await answer(measure.prompts, model, plan)
    rows = (
        {"id": prompt.id, "response": None if item is None else item.text}
        for prompt, item in zip(measure.prompts, said, strict=True)
    )
    write_whole(path, json_lines(rows))


async def read_back(measure: Measure, path: Path) -> Answers:
    side = FileSide(str(path), read_answers(path, measure.prompts))
    return [await side.answer(prompt) for prompt in measure.prompts]


async def evaluate_round(measure: Measure, judges: Judges, place: RoundPlace) -> dict[str, Any]:
    """`evaluation.json` of a round whose answers are there: the held-out judge over round 0; under `last` the
    same over the round before; under `training_judge` the training judge over round 0."""
    path = place.folder / "evaluation.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    ours, start, last = [
        await read_back(measure, RoundPlace(place.out, number).folder / "answers.jsonl")
        for number in (place.number, 0, place.number - 1)
    ]
    result = await measure.compare(judges.held_out, ours, start, place.annotations("start"))
    over_last = await measure.compare(judges.held_out, ours, last, place.annotations("last"))
    by_training = await measure.compare(judges.training, ours, start, place.annotations("training"))
    result |= {
        "baseline": "round 0",
        "length_ratio": length_ratio(result),
        "warnings": caveats(result),
        "last": over_last | {"baseline": f"round {place.number - 1}"},
        "training_judge": by_training | {"baseline": "round 0"},
    }
    write_json(path, result)
    return result


def length_ratio(result: Mapping[str, Any]) -> float:
    """Mean characters of the model's answers over the baseline's (at least one)."""
    return float(result["length_model_mean"] / max(1.0, result["length_baseline_mean"]))


def read_round(place: RoundPlace) -> Round:
    """A measured round, from its files."""
    result = json.loads((place.folder / "evaluation.json").read_text(encoding="utf-8"))
    return Round(
        place.number,
        _preferences(place.annotations("start")),
        _preferences(place.annotations("training")),
        _estimate(result),
        _estimate(result["last"]),
        result["length_ratio"],
    )


def _preferences(path: Path) -> Array:
    told = (item.preference for item in read_annotations(path))
    return np.array([np.nan if value is None else value for value in told], np.float64)


def _estimate(result: Mapping[str, Any]) -> Estimate:
    low, high = result["ci"]
    return Estimate(result["win_rate"], (low, high))

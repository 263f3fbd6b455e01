"""Is one model better than another? Answers of both to the same prompts, judged blind, with intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from judges.judge import Judge
from judges.win_rate import (
    bootstrap_interval,
    discrete_win_rate,
    length_controlled_win_rate,
    standard_error,
    win_rate,
)
from pipelines.judge import judge_pairs
from prefgen.candidate import Candidate
from prefgen.errors import GateError
from prefgen.judgment import sigmoid
from prefgen.labels import LabelledPair, Pair
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.sampling import SamplingPlan, sample


@dataclass(frozen=True, slots=True)
class Annotation:
    """One prompt of a comparison. `preference`: probability that the model beats the baseline; None where
    an answer or a judgment failed. Lengths are in characters."""

    id: str
    preference: float | None
    length_model: int
    length_baseline: int


async def answer(
    prompts: Sequence[Prompt], model: RecordedModel, plan: SamplingPlan
) -> list[Candidate | None]:
    """The first answer of a model to each prompt; None where the call failed."""
    sampled = await asyncio.gather(*(sample(prompt, [model], plan) for prompt in prompts))
    return [item.candidates[0] if item.candidates else None for item in sampled]


async def compare(
    judge: Judge,
    prompts: Sequence[Prompt],
    model: Sequence[Candidate | None],
    baseline: Sequence[Candidate | None],
) -> list[Annotation]:
    """The judge's preference, prompt by prompt. Two equal texts are a tie and cost no call."""
    met = {
        prompt.id: Pair(prompt.id, prompt, ours, theirs)
        for prompt, ours, theirs in zip(prompts, model, baseline, strict=True)
        if ours is not None and theirs is not None
    }
    judged = await judge_pairs(judge, [pair for pair in met.values() if pair.a.text != pair.b.text])
    margins = {item.pair.id: item.margin for item in judged}
    annotations = []
    for prompt in prompts:
        pair = met.get(prompt.id)
        if pair is None:
            annotations.append(Annotation(prompt.id, None, 0, 0))
            continue
        margin = 0.0 if pair.a.text == pair.b.text else margins[prompt.id]
        preference = None if margin is None else sigmoid(margin)
        annotations.append(Annotation(prompt.id, preference, len(pair.a.text), len(pair.b.text)))
    return annotations


def evaluation(annotations: Sequence[Annotation], judge: str) -> dict[str, Any]:
    """The keys of `evaluation.json`; failed prompts are counted and left out. Raises GateError when no
    prompt is left."""
    usable = [item for item in annotations if item.preference is not None]
    if not usable:
        raise GateError("no prompt has a judgment, so there is no win rate")
    preference = np.array([item.preference for item in usable], np.float64)
    ours = np.array([item.length_model for item in usable], np.float64)
    theirs = np.array([item.length_baseline for item in usable], np.float64)
    low, high = bootstrap_interval(preference)
    return {
        "n": len(usable),
        "n_failed": len(annotations) - len(usable),
        "win_rate": win_rate(preference),
        "standard_error": standard_error(preference) if len(usable) > 1 else None,
        "ci": [low, high],
        "discrete_win_rate": discrete_win_rate(preference),
        "length_controlled_win_rate": length_controlled_win_rate(preference, ours, theirs),
        "length_model_mean": float(ours.mean()),
        "length_baseline_mean": float(theirs.mean()),
        "judge": judge,
    }


async def agreement(judge: Judge, labelled: Sequence[LabelledPair]) -> dict[str, Any]:
    """How often the judge takes the side most annotators took. Pairs that they hold for ties, and pairs
    that the judge failed on or held for ties, are counted and left out. Raises GateError as `evaluation`."""
    decided = [item for item in labelled if item.majority != "tie"]
    judged = await judge_pairs(judge, [item.pair for item in decided])
    sides = [
        (item.majority == "a") == (result.margin > 0)
        for item, result in zip(decided, judged, strict=True)
        if result.margin
    ]
    if not sides:
        raise GateError("the judge decided none of the labelled pairs, so there is no agreement")
    low, high = bootstrap_interval(np.array(sides, np.float64))
    return {
        "n": len(sides),
        "agreement": sum(sides) / len(sides),
        "ci": [low / 100, high / 100],
        "n_ties": len(labelled) - len(decided),
        "n_undecided": len(decided) - len(sides),
        "judge": judge.name,
    }

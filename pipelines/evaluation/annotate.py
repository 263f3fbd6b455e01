"""Two answers to a prompt through a judge, and what is to be said of the judge itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from judges.intervals import bootstrap, weighted_mean
from judges.judge import Judge
from pipelines.evaluation.annotations import Annotation
from pipelines.evaluation.numbers import RESAMPLES
from pipelines.judge import JudgedPair, judge_pair, judge_pairs, verdict_rows
from prefgen.candidate import Candidate
from prefgen.errors import GateError
from prefgen.judgment import JudgeFailure, sigmoid
from prefgen.labels import LabelledPair, Pair
from prefgen.prompt import Prompt


async def annotate(
    judge: Judge, prompt: Prompt, ours: Candidate | None, theirs: Candidate | None
) -> Annotation:
    """The judge's preference on one prompt. Two equal texts are a tie and cost no call."""
    found = Annotation(
        prompt.id,
        None,
        0 if ours is None else len(ours.text),
        0 if theirs is None else len(theirs.text),
        prompt=prompt.text,
        response_model=None if ours is None else ours.text,
        response_baseline=None if theirs is None else theirs.text,
    )
    if ours is None or theirs is None:
        return replace(found, failure="no_answer")
    if ours.text == theirs.text:
        return replace(found, preference=0.5)
    judged = await judge_pair(judge, Pair(prompt.id, prompt, ours, theirs))
    if judged.margin is None:
        return replace(found, failure=_cause(judged))
    shown = {row["order"]: row["p_a"] for row in verdict_rows(judge, judged)}
    return replace(
        found,
        preference=sigmoid(judged.margin),
        shown_first=shown.get("ab"),
        shown_second=shown.get("ba"),
    )


def _cause(judged: JudgedPair) -> str:
    return next((item.status for item in judged.results if isinstance(item, JudgeFailure)), "no_verdict")


async def compare(
    judge: Judge,
    prompts: Sequence[Prompt],
    model: Sequence[Candidate | None],
    baseline: Sequence[Candidate | None],
) -> list[Annotation]:
    """The judge's preference, prompt by prompt."""
    sides = zip(prompts, model, baseline, strict=True)
    return list(await asyncio.gather(*(annotate(judge, *each) for each in sides)))


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
    found = bootstrap(weighted_mean(np.array(sides, np.float64)), range(len(sides)), resamples=RESAMPLES)
    if found is None:
        raise GateError("the judge decided none of the labelled pairs, so there is no agreement")
    return {
        "n": len(sides),
        "agreement": found.value,
        "ci": list(found.ci),
        "n_ties": len(labelled) - len(decided),
        "n_undecided": len(decided) - len(sides),
        "judge": judge.name,
    }

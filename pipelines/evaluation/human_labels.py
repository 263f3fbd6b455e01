"""The judge's win rate corrected by human labels of some of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from judges.correction import LEAST_SKILL, prediction_powered, rogan_gladen
from judges.intervals import Array, Estimate
from pipelines.evaluation.annotations import Annotation
from pipelines.evaluation.numbers import clusters_of, preferences, usable_of
from prefgen.errors import InputError
from prefgen.labels import LabelledPair

_WINS = {"a": 1.0, "tie": 0.5, "b": 0.0}


def corrected(
    annotations: Sequence[Annotation], labelled: Sequence[LabelledPair], path: Path
) -> dict[str, Any]:
    """Prediction-powered and Rogan-Gladen win rates, in percent; None where the labels allow none.

    A label belongs to the prompt of its id; several annotators are held together by majority (none = tie).
    The prediction-powered rate counts ties as half; the Rogan-Gladen rate is of pairs people do not hold for
    ties. Raises InputError where a label is of other answers, or no label of a judged prompt.
    """
    by_id = {item.pair.id: item for item in labelled}
    usable = usable_of(annotations)
    seen = [item for item in usable if item.id in by_id]
    rest = [item for item in usable if item.id not in by_id]
    if not seen:
        raise InputError(
            path,
            "no label is of a prompt with a judgment",
            seen=f"ids such as {labelled[0].pair.id!r}",
            expected=f"ids such as {usable[0].id!r}",
        )
    human = np.array([_human(path, item, by_id[item.id]) for item in seen])
    judged, unlabelled = preferences(seen), preferences(rest)
    powered = prediction_powered(human, judged, unlabelled, clusters_of([*seen, *rest]))
    return {
        "n": len(seen),
        "n_unused": len(labelled) - len(seen),
        "human_win_rate": 100 * float(human.mean()),
        "prediction_powered": None
        if powered is None
        else _percent(powered.estimate)
        | {"judge_weight": powered.weight, "effective_labels": powered.effective_labels},
        "rogan_gladen": _rogan_gladen(human, judged, unlabelled),
    }


def _human(path: Path, annotation: Annotation, labelled: LabelledPair) -> float:
    """1 where people prefer the model. The sides are told by their texts, where the annotation has them."""
    shown = (labelled.pair.a.text, labelled.pair.b.text)
    wins = _WINS[labelled.majority]
    answers = (annotation.response_model, annotation.response_baseline)
    if None in answers or shown == answers:
        return wins
    if shown == answers[::-1]:
        return 1 - wins
    raise InputError(
        path,
        f"the label {annotation.id!r} is of other answers than those judged",
        seen=shown[0],
        expected="response_a the model's answer and response_b the baseline's, or the other way round",
        fix="label the answers in annotations.jsonl, or evaluate the labelled answers as files",
    )


def _rogan_gladen(human: Array, judged: Array, rest: Array) -> dict[str, Any] | None:
    called, wins, losses = _called(judged), human == 1, human == 0
    found = rogan_gladen(
        float(_called(rest).mean()) if len(rest) else 0.0,
        len(rest),
        float(called[wins].sum()),
        int(wins.sum()),
        float((1 - called[losses]).sum()),
        int(losses.sum()),
    )
    if found is None:
        return None
    told = {"sensitivity": found.sensitivity, "specificity": found.specificity}
    if found.estimate is None:
        return {"value": None, "ci": None, **told, "refused": f"skill below {LEAST_SKILL}"}
    return _percent(found.estimate) | told


def _called(preference: Array) -> Array:
    verdict: Array = (1 + np.sign(preference - 0.5)) / 2
    return verdict


def _percent(estimate: Estimate) -> dict[str, Any]:
    return {"value": 100 * estimate.value, "ci": [100 * bound for bound in estimate.ci]}

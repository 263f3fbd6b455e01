"""From a judge's margins on labelled items to a map and a threshold: the second half of a calibration.

Weights of principles or judges, where they are fitted, and the maps on top are cross-fitted: what is told of
their worth comes from labels they did not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from judges.calibration import (
    ENOUGH_FOR_ISOTONIC,
    CalibrationMap,
    Labelled,
    MapKind,
    Trial,
    choose,
    fit_map,
    fit_principles,
    fit_temperature,
    folds,
    style_difference,
    try_maps,
)
from judges.cascade import Reached, kept, select_cascade
from judges.intervals import Array, clopper_pearson_upper
from judges.items import Item, one_a_prompt
from judges.planner import labels_for_width, labels_to_earn
from judges.reliability import (
    brier,
    calibration_error,
    discrimination,
    favoured,
    noise_floor,
    reliability,
)
from judges.selective import Selection, select
from pipelines.calibration.settings import Settings
from prefgen.judgment import Verdict

Found = dict[str, Any]
Mask = npt.NDArray[np.bool_]
_WORTH: dict[Verdict, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True, slots=True)
class Heard:
    """A judge's margins, shape (n,): `margin` with weights fitted on all labels, `unseen` on those of other
    folds. Nothing was fitted where `weights`, {name: {agreement, weight}}, is None."""

    margin: Array
    unseen: Array
    weights: Mapping[str, Mapping[str, float]] | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """A map, the `trials` it won, and on each item the confidence in the judge's label, shape (n,), and
    whether people agree with it. `tested`: the items a threshold is tested on, one of each prompt, since
    labels of one prompt are not independent."""

    map: CalibrationMap
    trials: Mapping[MapKind, Trial]
    confidence: Array
    correct: Mask
    tested: Mask

    @property
    def log_odds(self) -> Array:
        """t of each item under a map that was fitted without it."""
        return self.trials[self.map.kind].log_odds


def human_of(items: Sequence[Item]) -> Array:
    """1 for a, 0 for b, .5 for a tie, shape (n,)."""
    return np.array([_WORTH[item.human] for item in items])


def hear(items: Sequence[Item], settings: Settings) -> Heard:
    """The margins of one judge, or of a jury; the weights of a stacked jury, or of principles that were asked
    one by one, are fitted."""
    plain = np.array([item.margin for item in items], np.float64)
    if settings.combine == "stacked":
        return _weighed(items, [item.judges for item in items], settings, _stack)
    principles = [item.principles for item in items]
    if settings.combine == "mean" and set.intersection(*map(set, principles)):
        return _weighed(items, principles, settings, _alike)
    return Heard(plain, plain)


def _weighed(
    items: Sequence[Item],
    told: Sequence[Mapping[str, float]],
    settings: Settings,
    fit: Callable[[Array, Array], Array],
) -> Heard:
    names = sorted(set.intersection(*(set(item) for item in told)))
    parts = np.array([[item[name] for name in names] for item in told])
    human, plain = human_of(items), parts.mean(axis=1)
    decided = human != 0.5
    if not decided.any():
        return Heard(plain, plain)
    fold, unseen = folds([item.cluster for item in items], settings.seed), plain.copy()
    for number in np.unique(fold):
        rest = decided & (fold != number)
        if rest.any():
            unseen[fold == number] = parts[fold == number] @ fit(parts[rest], human[rest])
    weights = fit(parts[decided], human[decided])
    right = np.where(parts == 0, 0.5, (parts > 0) == (human == 1)[:, None])[decided].mean(axis=0)
    shown = {
        name: {"agreement": float(right[place]), "weight": float(weights[place])}
        for place, name in enumerate(names)
    }
    return Heard(parts @ weights, unseen, shown)


def _alike(parts: Array, human: Array) -> Array:
    return fit_principles(parts, human, np.full(parts.shape[1], 1 / parts.shape[1]))


def _stack(parts: Array, human: Array) -> Array:
    """Judges are first brought to one scale: one that is always sure would else outweigh the others."""
    temperature = np.array([fit_temperature(column, human) for column in parts.T])
    weights: Array = _alike(parts / temperature, human) / temperature
    return weights


def fit(items: Sequence[Item], heard: Heard, settings: Settings) -> Fit | None:
    """The map of the settings' kind, or the one that is clearly the best; None where no label decides."""
    style = np.array([style_difference(item.pair.a.text, item.pair.b.text) for item in items])
    data = Labelled(heard.margin, style, human_of(items), [item.cluster for item in items])
    if not data.decided.any():
        return None
    unseen = Labelled(heard.unseen, style, data.human, data.cluster)
    trials = try_maps(unseen, _kinds(settings, data), settings.seed)
    kind = choose(trials) if settings.map == "auto" else settings.map
    fitted, t, margin = fit_map(kind, data), trials[kind].log_odds, heard.unseen
    # Only a map that keeps the order of margins that were not fitted may see the labels it is tested on.
    if kind == "temperature" and heard.weights is None:
        t = fitted.log_odds(data.margin, style)
    # The label is the side the judge leans to; where the map believes the other side there is none.
    towards = np.sign(margin) * t
    confidence = np.where(towards > 0, fitted.agreement(towards), 0.0)
    right = np.where(margin > 0, data.human == 1, data.human == 0) & (towards > 0)
    return Fit(fitted, trials, confidence, right, np.array(one_a_prompt(items)))


def _kinds(settings: Settings, data: Labelled) -> list[MapKind]:
    if settings.map != "auto":
        return [settings.map]
    enough: list[MapKind] = ["isotonic"] if data.decided.sum() >= ENOUGH_FOR_ISOTONIC else []
    return ["temperature", "debiased", *enough]


def told(items: Sequence[Item], heard: Heard, fit: Fit, settings: Settings) -> Found:
    """`probability`: raw and cross-fitted probabilities against the labels that decide; raw only where they
    were stated."""
    human, raw = human_of(items), heard.margin
    known = human != 0.5
    found: Found = {"ece_raw": None, "brier_raw": None, "reliability_raw": None}
    if all(item.stated for item in items):
        before = favoured(raw[known], human[known])
        found = {
            "ece_raw": calibration_error(*before),
            "brier_raw": brier(*before),
            "reliability_raw": [asdict(item) for item in reliability(*before)],
        }
    after = favoured(fit.log_odds[known], human[known])
    maps = {name: _trial(trial) for name, trial in fit.trials.items()}
    return found | {
        "ece_calibrated": calibration_error(*after),
        "brier_calibrated": brier(*after),
        "ece_noise_floor": noise_floor(after[0], seed=settings.seed),
        "auroc": discrimination(np.abs(raw[known]), favoured(raw[known], human[known])[1]),
        "reliability": [asdict(item) for item in reliability(*after, level=np.abs(raw[known]))],
        "temperature": fit.map.temperature,
        "map": fit.map.model_dump(mode="json"),
        "maps": maps,
    }


def _trial(trial: Trial) -> dict[str, float]:
    return {
        "log_loss": trial.log_loss,
        "accuracy": trial.accuracy,
        "gain": trial.gain,
        "gain_standard_error": trial.standard_error,
    }


def selective(fit: Fit, settings: Settings) -> Selection | None:
    confidence, correct = fit.confidence[fit.tested], fit.correct[fit.tested]
    return select(confidence, correct, target=settings.target, delta=settings.delta)


def cascade(items: Sequence[Item], settings: Settings) -> tuple[Found | None, list[Item]]:
    """(the judges of a cascade with their maps and thresholds, the items with the margin of the judge that
    decides each, the last one where none is sure). None where no label decides."""
    heard = {name: np.array([item.judges[name] for item in items]) for name in settings.judges}
    fits = {name: fit(items, Heard(margin, margin), settings) for name, margin in heard.items()}
    stages = [(name, told) for name, told in fits.items() if told is not None]
    if not stages:
        return None, list(items)
    tested = stages[0][1].tested
    confidence = np.array([told.confidence for _, told in stages]).T
    correct = np.array([told.correct for _, told in stages]).T
    reached = select_cascade(
        confidence[tested], correct[tested], target=settings.target, delta=settings.delta
    )
    shown = [_stage(items, name, told, stage) for (name, told), stage in zip(stages, reached, strict=True)]
    n_kept, n_errors = kept(reached)
    overall = {
        "target": settings.target,
        "delta": settings.delta,
        "threshold": None,
        "coverage": n_kept / int(tested.sum()),
        "n_kept": n_kept,
        "n_errors": n_errors,
        "upper_bound": clopper_pearson_upper(n_errors, n_kept, settings.delta),
    }
    decided = [
        _decided(item, settings.judges, confidence[place], reached) for place, item in enumerate(items)
    ]
    return {
        "target": settings.target,
        "delta": settings.delta,
        "overall": overall if n_kept else None,
        "stages": shown,
    }, decided


def _stage(items: Sequence[Item], name: str, told: Fit, stage: Reached) -> Found:
    return {
        "judge": name,
        "n_reached": stage.n,
        "agreement": float(told.correct.mean()),
        "selective": None if stage.selection is None else stage.selection.as_json(),
        "map": told.map.model_dump(mode="json"),
        **answers(items, told),
    }


def answers(items: Sequence[Item], fit: Fit) -> Found:
    """What a threshold for another target is found from."""
    return {
        "ids": [item.pair.id for item, tested in zip(items, fit.tested, strict=True) if tested],
        "confidence": fit.confidence[fit.tested].tolist(),
        "correct": fit.correct[fit.tested].tolist(),
    }


def _decided(item: Item, judges: Sequence[str], confidence: Array, reached: Sequence[Reached]) -> Item:
    sure = (
        name
        for name, value, stage in zip(judges, confidence, reached, strict=True)
        if stage.selection is not None and value >= stage.selection.threshold
    )
    return item.by(next(sure, judges[-1]))


def planner(n: int, settings: Settings, agreement: float, fit: Fit | None) -> Found:
    """Labels in all for an interval of the wanted width, and to earn the target on part of the labels. Those
    are of different prompts: of each prompt one label is tested."""
    needed = labels_for_width(agreement, settings.width)
    earned = n_tested = None
    if fit is not None:
        n_tested = int(fit.tested.sum())
        confidence, correct = fit.confidence[fit.tested], fit.correct[fit.tested]
        earned = labels_to_earn(confidence, correct, settings.target, settings.delta)
    return {
        "width": settings.width,
        "labels_for_width": needed,
        "more_for_width": max(0, needed - n),
        "labels_for_target": earned,
        "more_for_target": None if earned is None or n_tested is None else max(0, earned - n_tested),
    }

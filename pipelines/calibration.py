"""What a calibration finds: the keys of `calibration.json`, measured on items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from judges.agreement import (
    VERDICTS,
    agreement,
    alternative_annotator_test,
    codes,
    confusion,
    human_agreement,
    kappa,
    krippendorff_alpha,
    pairwise_kappas,
    precision_recall_f1,
)
from judges.bias import leanings, position, repeats
from judges.calibration import (
    ENOUGH_FOR_ISOTONIC,
    Labelled,
    MapKind,
    Trial,
    choose,
    fit_map,
    fit_principles,
    folds,
    style_difference,
    try_maps,
)
from judges.intervals import Array, Estimate, Statistic, bootstrap, weighted_mean
from judges.items import Item
from judges.planner import labels_for_target, labels_for_width
from judges.reliability import (
    brier,
    calibration_error,
    discrimination,
    favoured,
    noise_floor,
    reliability,
)
from judges.selective import select
from prefgen.judgment import Verdict

_WORTH: dict[Verdict, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True, slots=True)
class Settings:
    """See `CalibrateConfig`."""

    target: float
    delta: float
    map: MapKind | Literal["auto"]
    failures_as_tie: bool
    epsilon: float
    width: float
    seed: int


@dataclass(frozen=True, slots=True)
class _Told:
    """The items that count, with what people and the judge said."""

    items: Sequence[Item]
    human: Sequence[Verdict]
    judge: Sequence[Verdict]
    seed: int

    @property
    def clusters(self) -> list[str]:
        return [item.cluster for item in self.items]

    def estimate(self, statistic: Statistic) -> Estimate | None:
        return bootstrap(statistic, self.clusters, seed=self.seed)


def examine(items: Sequence[Item], settings: Settings) -> dict[str, Any]:
    """Everything but who the judge is. At least one item has a usable verdict."""
    usable = [item for item in items if item.margin is not None]
    counted = list(items) if settings.failures_as_tie else usable
    told = _Told(
        counted, [item.human for item in counted], [item.verdict or "tie" for item in counted], settings.seed
    )
    agreed = _agreement(told)
    return {
        "n": len(counted),
        "n_items": len(items),
        "n_failed": len(items) - len(usable),
        **agreed,
        "annotators": _annotators(told, settings.epsilon),
        **_biases(usable, settings.seed),
        **_probability(usable, settings, agreed),
    }


def _agreement(told: _Told) -> dict[str, Any]:
    human, judge = codes(told.human), codes(told.judge)

    def of(measure: Statistic) -> Statistic:
        return lambda weights: measure(confusion(human, judge, weights))

    both = np.array(
        [ours != "tie" and theirs != "tie" for ours, theirs in zip(told.human, told.judge, strict=True)]
    )

    def without_ties(weights: Array) -> Array:
        return agreement(confusion(human, judge, weights * both))

    tables = confusion(human, judge, np.ones((1, len(human))))
    precision, recall, f1 = precision_recall_f1(tables)[0].tolist()
    cells = {
        ours: {theirs: round(tables[0][row][column]) for column, theirs in enumerate(VERDICTS)}
        for row, ours in enumerate(VERDICTS)
    }
    single = [
        (verdict.verdict == item.human, item.cluster)
        for item in told.items
        for verdict in item.verdicts
        if verdict.verdict is not None
    ]
    return {
        "agreement": _json(told.estimate(of(agreement))),
        "agreement_no_ties": _json(told.estimate(without_ties)),
        "agreement_single": _json(
            bootstrap(
                weighted_mean(np.array([float(same) for same, _ in single])),
                [cluster for _, cluster in single],
                seed=told.seed,
            )
        ),
        "kappa": _json(told.estimate(of(kappa))),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "confusion": cells,
    }


def _annotators(told: _Told, epsilon: float) -> dict[str, Any]:
    """People among themselves, beside the judge held against one of them at a time."""
    votes = [item.votes for item in told.items]
    labels = [[label for _, label in item] for item in votes]
    names = {name for item in votes for name, _ in item if name is not None}
    several = [place for place, item in enumerate(labels) if len(item) > 1]
    clusters = [told.clusters[place] for place in several]

    def mean(values: Sequence[float]) -> dict[str, Any] | None:
        if not values:
            return None
        return _json(bootstrap(weighted_mean(np.array(values)), clusters, seed=told.seed))

    among = [human_agreement(labels[place]) or 0.0 for place in several]
    judge = [labels[place].count(told.judge[place]) / len(labels[place]) for place in several]
    test = alternative_annotator_test(votes, told.judge, epsilon=epsilon)
    return {
        "n": len(names) or max(map(len, labels)),
        "pairwise_kappa": pairwise_kappas(votes),
        "krippendorff_alpha": krippendorff_alpha(labels),
        "human_agreement": None if not among else float(np.mean(among)),
        "human_agreement_ci": (mean(among) or {}).get("ci"),
        "judge_agreement": mean(judge),
        "n_items_with_several": len(several),
        "alternative_annotator": None if test is None else asdict(test) | {"passed": test.passed},
    }


def _biases(items: Sequence[Item], seed: int) -> dict[str, Any]:
    where, again, style = position(items, seed=seed), repeats(items, seed=seed), leanings(items, seed=seed)
    length = style.pop("length", None)
    return {
        "position": {
            "n_both_orders": where.n_both_orders,
            "consistency": where.consistency,
            "first_slot_rate": where.first_slot_rate,
            "first_slot_ci": where.first_slot_ci,
            "p_value": where.p_value,
            "bias_log_odds": None if where.log_odds is None else where.log_odds.value,
            "bias_log_odds_ci": None if where.log_odds is None else where.log_odds.ci,
            "first_only": where.first_only,
            "second_only": where.second_only,
        },
        "length": {
            "n": length.n if length else 0,
            "judge_prefers_longer": length.judge if length else None,
            "human_prefers_longer": length.human if length else None,
            "difference": length.difference.as_json() if length else None,
        },
        "style": {
            name: {
                "n": told.n,
                "judge_prefers_more": told.judge,
                "human_prefers_more": told.human,
                "difference": told.difference.as_json(),
            }
            for name, told in style.items()
        },
        "repeats": None
        if again is None
        else {"n_questions": again.n_questions, "agreement": again.agreement.as_json()},
    }


def _probability(items: Sequence[Item], settings: Settings, agreed: Mapping[str, Any]) -> dict[str, Any]:
    """The map, what it is worth on labels it did not see, the threshold, and how many labels more."""
    human = np.array([_WORTH[item.human] for item in items])
    style = np.array([style_difference(item.pair.a.text, item.pair.b.text) for item in items])
    raw, principles, out_of_fold = _margins(items, human, settings.seed)
    data = Labelled(raw, style, human, [item.cluster for item in items])
    if not data.decided.any():
        unknown = {"probability": None, "selective": None, "principles": principles}
        return unknown | {"selective_items": None, "planner": _planner(len(items), settings, agreed, None)}
    unseen = Labelled(out_of_fold, style, human, data.cluster)
    trials = try_maps(unseen, _kinds(settings, data), settings.seed)
    kind = choose(trials) if settings.map == "auto" else settings.map
    fitted, trial = fit_map(kind, data), trials[kind]
    told, calibrated = data.decided, trial.log_odds
    # Only a map that keeps the order of margins that were not fitted may see the labels it is tested on.
    honest = fitted.log_odds(raw, style) if kind == "temperature" and principles is None else calibrated
    known = np.isfinite(honest)
    confidence = fitted.agreement(np.abs(honest[known]))
    correct = np.where(honest[known] > 0, human[known] == 1, human[known] == 0) & (honest[known] != 0)
    selection = select(confidence, correct, target=settings.target, delta=settings.delta)
    return {
        "probability": _quality(raw, calibrated, human, told, items, settings)
        | {"temperature": fitted.temperature, "map": fitted.model_dump(mode="json")}
        | {"maps": {name: _trial(item) for name, item in trials.items()}},
        "selective": None if selection is None else selection.as_json(),
        "selective_items": {
            "target": settings.target,
            "delta": settings.delta,
            "confidence": confidence.tolist(),
            "correct": correct.tolist(),
        },
        "principles": principles,
        "planner": _planner(len(items), settings, agreed, (confidence, correct)),
    }


def _margins(
    items: Sequence[Item], human: Array, seed: int
) -> tuple[Array, dict[str, dict[str, float]] | None, Array]:
    """(margins, principles, margins with weights fitted on other labels), the last two for judges that ask
    principle by principle."""
    plain = np.array([item.margin for item in items], np.float64)
    names = set.intersection(*(set(item.principles) for item in items))
    decided = human != 0.5
    if not names or not decided.any():
        return plain, None, plain
    ordered = sorted(names)
    by_principle = np.array([[item.principles[name] for name in ordered] for item in items])
    prior = np.full(len(ordered), 1 / len(ordered))

    def weights(rows: Any) -> Array:
        return fit_principles(by_principle[rows & decided], human[rows & decided], prior)

    fold, unseen = folds([item.cluster for item in items], seed), plain.copy()
    for number in np.unique(fold):
        if (decided & (fold != number)).any():
            unseen[fold == number] = by_principle[fold == number] @ weights(fold != number)
    fitted = weights(np.ones(len(items), np.bool_))
    alone = np.where(by_principle == 0, 0.5, (by_principle > 0) == (human == 1)[:, None])[decided]
    told = {
        name: {"agreement": float(alone[:, place].mean()), "weight": float(fitted[place])}
        for place, name in enumerate(ordered)
    }
    return by_principle @ fitted, told, unseen


def _kinds(settings: Settings, data: Labelled) -> list[MapKind]:
    if settings.map != "auto":
        return [settings.map]
    enough: list[MapKind] = ["isotonic"] if data.decided.sum() >= ENOUGH_FOR_ISOTONIC else []
    return ["temperature", "debiased", *enough]


def _quality(
    raw: Array, calibrated: Array, human: Array, decided: Any, items: Sequence[Item], settings: Settings
) -> dict[str, Any]:
    """Raw and cross-fitted probabilities against the labels that decide; raw only where they were stated."""
    known = decided & np.isfinite(calibrated)
    told: dict[str, Any] = {"ece_raw": None, "brier_raw": None, "reliability_raw": None}
    if all(item.stated for item in items):
        before = favoured(raw[decided], human[decided])
        told["ece_raw"], told["brier_raw"] = calibration_error(*before), brier(*before)
        told["reliability_raw"] = [asdict(item) for item in reliability(*before)]
    told |= dict.fromkeys(("ece_calibrated", "brier_calibrated", "ece_noise_floor", "auroc", "reliability"))
    if known.any():
        after = favoured(calibrated[known], human[known])
        told |= {
            "ece_calibrated": calibration_error(*after),
            "brier_calibrated": brier(*after),
            "ece_noise_floor": noise_floor(after[0], seed=settings.seed),
            "auroc": discrimination(np.abs(raw[known]), favoured(raw[known], human[known])[1]),
            "reliability": [asdict(item) for item in reliability(*after)],
        }
    return told


def _trial(trial: Trial) -> dict[str, float]:
    return {
        "log_loss": trial.log_loss,
        "accuracy": trial.accuracy,
        "gain": trial.gain,
        "gain_standard_error": trial.standard_error,
    }


def _planner(
    n: int, settings: Settings, agreed: Mapping[str, Any], kept: tuple[Array, Any] | None
) -> dict[str, Any]:
    """Labels in all for an interval of the wanted width, and to earn the target on part of the labels."""
    rate = agreed["agreement"]["value"]
    needed = labels_for_width(rate, settings.width)
    earned = None if kept is None else _labels_to_earn(*kept, settings)
    return {
        "width": settings.width,
        "labels_for_width": needed,
        "more_for_width": max(0, needed - n),
        "labels_for_target": earned,
        "more_for_target": None if earned is None else max(0, earned - n),
    }


def _labels_to_earn(confidence: Array, correct: Any, settings: Settings) -> int | None:
    """The fewest labels under which some share of the most confident would earn the target, if it goes on
    being right as often as here; None where no share does."""
    ranked = correct[np.argsort(-confidence, kind="stable")]
    options = []
    for share in (0.25, 0.5, 0.75, 1.0):
        top = ranked[: max(1, round(share * len(ranked)))]
        options.append(labels_for_target(float(top.mean()), settings.target, settings.delta, share))
    return min((option for option in options if option is not None), default=None)


def _json(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.as_json()

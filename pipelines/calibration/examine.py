"""What a calibration finds: the keys of `calibration.json`, measured on items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
from judges.bias import leanings, position, repeats, self_preference
from judges.intervals import Array, Estimate, Statistic, bootstrap, clopper_pearson, weighted_mean
from judges.items import Item
from pipelines.calibration.probability import Fit, answers, cascade, fit, hear, planner, selective, told
from pipelines.calibration.settings import Settings
from prefgen.judgment import Verdict
from prefgen.models import family_of_name

Found = dict[str, Any]


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

    def rate(self, statistic: Statistic) -> Estimate | None:
        """The same of a share: where all or none agree no resample differs; then by the exact interval."""
        found, n = self.estimate(statistic), len(set(self.clusters))
        if found is None or found.value not in (0, 1):
            return found
        return Estimate(found.value, clopper_pearson(round(found.value) * n, n))


def examine(items: Sequence[Item], settings: Settings) -> Found:
    """Everything but who the judge is. At least one item has a usable verdict."""
    usable = [item for item in items if item.margin is not None]
    labelled, decided, fitted = _labelling(usable, settings)
    failed = [item for item in items if item.margin is None]
    counted = [*decided, *failed] if settings.failures_as_tie else decided
    about = _Told(
        counted, [item.human for item in counted], [item.verdict or "tie" for item in counted], settings.seed
    )
    agreed = _agreement(about)
    return {
        "n": len(counted),
        "n_items": len(items),
        "n_failed": len(failed),
        "n_prompts": len({item.prompt for item in items}),
        "stated": all(item.stated for item in usable),
        **agreed,
        "annotators": _annotators(items, about, settings.epsilon),
        **_biases(decided, settings.seed),
        "self_preference": _self_preference(decided, settings),
        **labelled,
        "planner": planner(len(usable), settings, agreed["agreement"]["value"], fitted),
    }


def _labelling(items: Sequence[Item], settings: Settings) -> tuple[Found, Sequence[Item], Fit | None]:
    """(the keys that labelling by this judge needs, the items with the margin that decides them, the fit)."""
    keys = ("probability", "selective", "selective_items", "principles", "jurors", "cascade")
    found: Found = dict.fromkeys(keys)
    if settings.combine == "cascade":
        found["cascade"], decided = cascade(items, settings)
        return found | {"selective": (found["cascade"] or {}).get("overall")}, decided, None
    heard = hear(items, settings)
    stacked = settings.combine == "stacked"
    found["jurors" if stacked else "principles"] = heard.weights
    decided = [item.with_margin(unseen) for item, unseen in zip(items, heard.unseen, strict=True)]
    fitted = fit(items, heard, settings)
    if fitted is not None:
        selection = selective(fitted, settings)
        found |= {
            "probability": told(items, heard, fitted, settings),
            "selective": None if selection is None else selection.as_json(),
            "selective_items": {
                "target": settings.target,
                "delta": settings.delta,
                **answers(items, fitted),
            },
        }
    return found, decided if stacked else items, fitted


def _agreement(told: _Told) -> Found:
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
        "agreement": _json(told.rate(of(agreement))),
        "agreement_no_ties": _json(told.rate(without_ties)),
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


def _annotators(items: Sequence[Item], told: _Told, epsilon: float) -> Found:
    """People among themselves, on all labelled items, beside the judge held against one of them at a time."""
    votes = [item.votes for item in items]
    labels = [[label for _, label in item] for item in votes]
    names = {name for item in votes for name, _ in item if name is not None}
    several = [place for place, item in enumerate(labels) if len(item) > 1]
    among = _mean(
        [human_agreement(labels[place]) or 0.0 for place in several],
        [items[place].cluster for place in several],
        told.seed,
    )
    judged = [(item, said) for item, said in zip(told.items, told.judge, strict=True) if len(item.votes) > 1]
    test = alternative_annotator_test([item.votes for item in told.items], told.judge, epsilon=epsilon)
    return {
        "n": len(names) or max(map(len, labels)),
        "n_named": len(names),
        "pairwise_kappa": pairwise_kappas(votes),
        "krippendorff_alpha": krippendorff_alpha(labels),
        "human_agreement": None if among is None else among.value,
        "human_agreement_ci": None if among is None else among.ci,
        "judge_agreement": _json(
            _mean(
                [[label for _, label in item.votes].count(said) / len(item.votes) for item, said in judged],
                [item.cluster for item, _ in judged],
                told.seed,
            )
        ),
        "n_items_with_several": len(several),
        "alternative_annotator": None if test is None else asdict(test) | {"passed": test.passed},
    }


def _mean(values: Sequence[float], clusters: Sequence[str], seed: int) -> Estimate | None:
    return bootstrap(weighted_mean(np.array(values)), clusters, seed=seed) if values else None


def _biases(items: Sequence[Item], seed: int) -> Found:
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


def _self_preference(items: Sequence[Item], settings: Settings) -> Found | None:
    """Where the labels file says who wrote the responses, in columns model_a and model_b."""
    if len(settings.judges) != 1:
        return None
    own = family_of_name(settings.judges[0])

    def authors(item: Item) -> tuple[bool, bool]:
        names = (item.pair.prompt.columns.get(f"model_{side}") for side in ("a", "b"))
        a, b = (isinstance(name, str) and family_of_name(name) == own for name in names)
        return a, b

    told = self_preference(items, authors, seed=settings.seed)
    return None if told is None else asdict(told) | {"difference": told.difference.as_json()}


def _json(estimate: Estimate | None) -> Found | None:
    return None if estimate is None else estimate.as_json()

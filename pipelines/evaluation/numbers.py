"""From annotations to the numbers of `evaluation.json`: no model, no file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from judges.intervals import Array, Statistic, bootstrap, weighted_mean
from judges.sequential import confidence_sequence, first_clear
from judges.significance import (
    cluster_sums,
    clustered_standard_error,
    detectable_difference,
    prompts_needed,
    sign_flip_test,
    sign_test,
)
from judges.style import style_control, style_features, style_weights
from judges.win_rate import discrete_win_rate, length_control, standard_error, win_rate
from pipelines.evaluation.annotations import Annotation
from prefgen.errors import GateError, InputError

RESAMPLES = 10_000
_REFITS = 1000
"""Resamples where each takes a regression."""
_FAR_APART = 10
"""Points."""
_FEW = 20
"""Clusters from which on bootstrap intervals hold what they promise (benchmarks/coverage.py)."""


def evaluation(
    annotations: Sequence[Annotation],
    judge: str | None,
    *,
    detect: float = 5,
    sequential: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """The keys of `evaluation.json`; rates in percent. Failed prompts are counted and left out.

    `sequential`: the annotations were looked at as they came in, so `ci` is the interval that allows for it,
    and there is no p-value. Raises GateError when no prompt is left.
    """
    usable = usable_of(annotations)
    preference, clusters = preferences(usable), clusters_of(usable)
    ours = np.array([item.length_model for item in usable], np.float64)
    theirs = np.array([item.length_baseline for item in usable], np.float64)
    control = length_control(preference, ours, theirs, _difficulty(usable))
    controlled = _interval(control, clusters, _REFITS, seed)
    looked = _sequential(usable) if sequential else None
    return {
        "n": len(usable),
        "n_failed": len(annotations) - len(usable),
        "failures": failures(annotations),
        "win_rate": win_rate(preference),
        "standard_error": standard_error(preference) if len(usable) > 1 else None,
        "ci": looked["ci"] if looked else rate_interval(preference, clusters, seed),
        "discrete_win_rate": discrete_win_rate(preference),
        "discrete_ci": rate_interval((1 + np.sign(preference - 0.5)) / 2, clusters, seed),
        "wins": int((preference > 0.5).sum()),
        "ties": int((preference == 0.5).sum()),
        "losses": int((preference < 0.5).sum()),
        "n_clusters": len(set(clusters)),
        "length_controlled_win_rate": controlled["value"],
        "length_controlled_ci": controlled["ci"],
        "length_model_mean": float(ours.mean()),
        "length_baseline_mean": float(theirs.mean()),
        "style_controlled": _style(usable, preference, clusters, seed),
        "position": _position(usable),
        "significance": None if sequential else _significance(preference, clusters, seed),
        "power": _power(preference, clusters, detect),
        "sequential": looked,
        "judge": judge,
    }


def failures(annotations: Sequence[Annotation]) -> dict[str, int]:
    """How many prompts have no preference, by cause."""
    causes = Counter(item.failure or "unknown" for item in annotations if item.preference is None)
    return dict(causes.most_common())


def usable_of(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Those with a preference. Raises GateError when there are none."""
    usable = [item for item in annotations if item.preference is not None]
    if not usable:
        raise GateError("no prompt has a judgment, so there is no win rate")
    return usable


def preferences(annotations: Sequence[Annotation]) -> Array:
    return np.array([item.preference for item in annotations], np.float64)


def clusters_of(annotations: Sequence[Annotation]) -> list[str]:
    """The cluster of each prompt; one without is its own."""
    return [f"id {item.id}" if item.cluster is None else item.cluster for item in annotations]


def rate_interval(preference: Array, clusters: Sequence[object] | None = None, seed: int = 0) -> list[float]:
    """The bootstrap interval of a win rate, in percent."""
    names = range(len(preference)) if clusters is None else clusters
    ci: list[float] = _interval(weighted_mean(100 * preference), names, RESAMPLES, seed)["ci"]
    return ci


def _interval(statistic: Statistic, clusters: Sequence[object], resamples: int, seed: int) -> dict[str, Any]:
    found = bootstrap(statistic, clusters, resamples=resamples, seed=seed)
    if found is None:
        raise ValueError("a rate of no prompts")
    return found.as_json()


def _difficulty(usable: Sequence[Annotation]) -> Array | None:
    if usable[0].difficulty is None:
        return None
    return np.array([item.difficulty for item in usable], np.float64)


def _style(
    usable: Sequence[Annotation], preference: Array, clusters: Sequence[str], seed: int
) -> dict[str, Any] | None:
    """None where the annotations came without the answers."""
    texts = [(item.response_model, item.response_baseline) for item in usable]
    if any(ours is None or theirs is None for ours, theirs in texts):
        return None
    features = style_features([ours or "" for ours, _ in texts], [theirs or "" for _, theirs in texts])
    found = _interval(style_control(preference, features), clusters, _REFITS, seed)
    return found | {"weights": style_weights(preference, features)}


def _position(usable: Sequence[Annotation]) -> dict[str, Any] | None:
    """How the judge treats the response shown first, over prompts judged in both orders."""
    both = [
        (item.shown_first, item.shown_second)
        for item in usable
        if item.shown_first is not None and item.shown_second is not None
    ]
    if not both:
        return None
    sides = np.sign(np.array(both) - 0.5)
    to_first = np.concatenate([sides[:, 0], -sides[:, 1]])
    decided = to_first[to_first != 0]
    return {
        "n_both_orders": len(both),
        "consistency": float((sides[:, 0] == sides[:, 1]).mean()),
        "first_slot_rate": float((decided > 0).mean()) if len(decided) else None,
    }


def _significance(preference: Array, clusters: Sequence[str], seed: int) -> dict[str, float]:
    sums = cluster_sums(preference - 0.5, clusters)
    return {"p_value": sign_flip_test(sums, seed=seed), "sign_test_p_value": sign_test(sums)}


def _power(preference: Array, clusters: Sequence[str], detect: float) -> dict[str, Any] | None:
    """What 80% power takes; None where all clusters are the same."""
    # As spread as they would be around an even match: the spread of a landslide says nothing of a close race.
    both_ways = np.append(preference, 1 - preference)
    mirrored = [*(f"{name} a" for name in clusters), *(f"{name} b" for name in clusters)]
    error = 100 * clustered_standard_error(both_ways, mirrored) * 2**0.5
    if not error > 0:
        return None
    spread = error * len(preference) ** 0.5
    return {
        "difference": detect,
        "prompts_needed": prompts_needed(spread, detect),
        "detectable_difference": detectable_difference(error),
    }


def _sequential(usable: Sequence[Annotation]) -> dict[str, Any]:
    bounds = confidence_sequence(preferences(usable))
    return {"clear_after": first_clear(bounds), "ci": [100 * float(bound) for bound in bounds[-1]]}


def difference(
    ours: Sequence[Annotation], path: Path, theirs: Sequence[Annotation], seed: int = 0
) -> dict[str, Any]:
    """How much the win rate differs from that of other annotations on the same prompts, in points.

    Prompts that failed in either are left out and counted. Raises InputError where no prompt is in both.
    """
    other = {item.id: item.preference for item in theirs}
    shared = [item for item in ours if item.id in other]
    both = [item for item in shared if item.preference is not None and other[item.id] is not None]
    if not both:
        raise InputError(
            path,
            "no prompt has a judgment here and in the evaluation it is compared with",
            seen=f"ids such as {theirs[0].id!r}",
            expected=f"ids such as {ours[0].id!r}",
        )
    values = 100 * (preferences(both) - np.array([other[item.id] for item in both], np.float64))
    clusters = clusters_of(both)
    found = _interval(weighted_mean(values), clusters, RESAMPLES, seed)
    return {
        "annotations": str(path),
        "n": len(both),
        "n_failed": len(shared) - len(both),
        "n_not_shared": len(ours) + len(theirs) - 2 * len(shared),
        "difference": found["value"],
        "ci": found["ci"],
        "p_value": sign_flip_test(cluster_sums(values, clusters), seed=seed),
    }


def caveats(result: dict[str, Any]) -> list[str]:
    """What somebody who reads only the win rate has to hear."""
    found = []
    if result["n_clusters"] < _FEW:
        found.append(f"only {result['n_clusters']} independent prompts: the intervals are too narrow")
    raw, controlled = result["win_rate"], result["length_controlled_win_rate"]
    if abs(raw - controlled) > _FAR_APART:
        found.append(
            f"at equal length the win rate is {controlled:.1f}%, not {raw:.1f}%: most of the difference may "
            "be how much the judge likes long answers"
        )
    position = result["position"]
    if position and position["consistency"] < 0.5:
        found.append(
            f"the judge gives the same verdict in both orders on only {position['consistency']:.0%} of the "
            "prompts: it looks at the place more than at the answers"
        )
    return found

"""From a judge's log-odds to the probability that a human agrees.

Three maps, all antisymmetric (which response is called a makes no difference), fitted on human labels:

    temperature   t = m / T, the one parameter of least log loss
    debiased      t = m / T + w · style, a ridge logistic regression on tanh(difference / sd) of surface
                  features, which takes out of the judge's opinion what is liking for length and markdown
    isotonic      t = a monotone step function of m; from 300 labels on

and, where people give ties, P(a) : P(b) : P(tie) = e^{t/2} : e^{-t/2} : nu (Davidson 1970). With nu = 0 the
probability that people prefer the better side is the logistic function of t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from judges.intervals import Array
from judges.win_rate import logistic_fit
from prefgen.candidate import Candidate
from prefgen.messages import content_hash
from prefgen.surface import surface

MapKind = Literal["temperature", "debiased", "isotonic"]
STYLE = ("length", "lists", "headers", "bold")
ENOUGH_FOR_ISOTONIC = 300
_COLDEST, _HOTTEST = 0.02, 200.0
_SUREST = 100.0
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a map is fitted on: `margin` (n,) the judge's log-odds that a is better; `style` (n, 4) the
    differences a - b of the `STYLE` features; `human` (n,) 1 for a, 0 for b, .5 for a tie; `cluster` (n,)."""

    margin: Array
    style: Array
    human: Array
    cluster: Sequence[str]

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> Labelled:
        kept = [name for name, keep in zip(self.cluster, rows, strict=True) if keep]
        return Labelled(self.margin[rows], self.style[rows], self.human[rows], kept)

    @property
    def decided(self) -> npt.NDArray[np.bool_]:
        rows: npt.NDArray[np.bool_] = self.human != 0.5
        return rows


def style_difference(a: str, b: str) -> list[float]:
    """a - b for each `STYLE` feature."""
    ours, theirs = surface(a).as_dict(), surface(b).as_dict()
    return [float(ours[name] - theirs[name]) for name in STYLE]


class CalibrationMap(BaseModel):
    """A fitted map; implements `prefgen.confidence.Confidence`. Part of `calibration.json`.

    `temperature`: T. `style`: {feature: [weight, sd]}. `steps`: isotonic (m, t) points, m >= 0, joined by
    lines. `tie`: nu.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: MapKind
    temperature: float = Field(gt=0)
    style: Mapping[str, tuple[float, float]] = Field(default_factory=dict)
    steps: tuple[tuple[float, float], ...] = ()
    tie: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.style.keys() <= set(STYLE) or any(sd <= 0 for _, sd in self.style.values()):
            raise ValueError(f"style takes {', '.join(STYLE)}, each with a standard deviation above 0")
        if self.kind == "isotonic" and not self.steps:
            raise ValueError("an isotonic map without steps")
        if any(b[0] <= a[0] or b[1] < a[1] for a, b in pairwise(self.steps)):
            raise ValueError("steps must rise")
        return self

    def log_odds(self, margin: Array, style: Array) -> Array:
        """t, shape (n,): calibrated log-odds that people prefer a, among those who decide."""
        if self.kind == "isotonic":
            at, odds = np.array(self.steps).T
            told: Array = np.sign(margin) * np.interp(np.abs(margin), at, odds)
            return told
        t = margin / self.temperature
        for name, (weight, sd) in self.style.items():
            t = t + weight * np.tanh(style[:, STYLE.index(name)] / sd)
        return t

    def agreement(self, log_odds: Array) -> Array:
        """Probability that people prefer the side that t = `log_odds` favours; a tie is no agreement."""
        t = np.clip(log_odds, -_SUREST, _SUREST)
        chance: Array = 1 / (1 + np.exp(-t) + self.tie * np.exp(-t / 2))
        return chance

    def probability(self, margin: float, better: Candidate, worse: Candidate) -> float:
        style = style_difference(better.text, worse.text) if self.style else [0.0] * len(STYLE)
        return float(self.agreement(self.log_odds(np.array([margin]), np.array([style])))[0])


def fit_map(kind: MapKind, data: Labelled) -> CalibrationMap:
    """The map of least log loss on the decided labels, then nu on all; with the targets of Platt (1999),
    (n + 1) / (n + 2) and 1 / (n + 2), where it would be surer than n labels allow. Raises ValueError without
    a decided label."""
    decided = data[data.decided]
    n = len(decided.margin)
    if not n:
        raise ValueError("no label decides between a and b")
    fitted = _fit(kind, decided)
    # Where the judge is always right least log loss has no end, but n labels do not show more than this.
    if fitted.agreement(np.abs(fitted.log_odds(decided.margin, decided.style))).mean() > (n + 1) / (n + 2):
        fitted = _fit(kind, replace(decided, human=(decided.human * n + 1) / (n + 2)))
    ties = int((~data.decided).sum())
    return fitted.model_copy(update={"tie": fit_tie(fitted.log_odds(data.margin, data.style), ties)})


def _fit(kind: MapKind, decided: Labelled) -> CalibrationMap:
    if kind == "debiased":
        return _debiased(decided)
    temperature = fit_temperature(decided.margin, decided.human)
    steps = _steps(decided) if kind == "isotonic" else ()
    return CalibrationMap(kind=kind, temperature=temperature, steps=steps)


def fit_temperature(margin: Array, human: Array) -> float:
    """T > 0 that minimises the log loss of sigmoid(margin / T), within 0.02 and 200."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return log_loss(margin / np.exp(log_t), human)

    best = minimize_scalar(
        loss, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded", options={"xatol": 1e-9}
    )
    return float(np.exp(best.x))


def fit_tie(log_odds: Array, ties: int) -> float:
    """nu of Davidson's model for given t, shape (n,), of which `ties` are tied: the root of
    ties / nu = sum 1 / (2 cosh(t / 2) + nu)."""
    from scipy.optimize import brentq

    if not ties:
        return 0.0
    base = 2 * np.cosh(np.clip(log_odds / 2, -300, 300))

    def slope(log_nu: float) -> float:
        nu = np.exp(log_nu)
        return float(ties - (nu / (base + nu)).sum())

    # More ties than a very large nu explains only where everything is a tie.
    return float(np.exp(brentq(slope, -20, 20))) if slope(20) < 0 else float(np.exp(20))


def _debiased(data: Labelled) -> CalibrationMap:
    """Ridge logistic regression; the prior of a style weight is normal with standard deviation 1 log-odds
    for a difference of one standard deviation and more. Features without spread are left out."""
    spread = data.style.std(axis=0)
    used = [place for place in range(len(STYLE)) if spread[place] > 0]
    style = np.tanh(data.style[:, used] / spread[used])
    scale = float(np.abs(data.margin).mean()) or 1.0
    design = np.column_stack([data.margin / scale, style])
    ridge = np.array([1e-6] + [1.0] * len(used))
    weights = logistic_fit(design, data.human, ridge)
    slope = min(1 / _COLDEST, max(1 / _HOTTEST, weights[0] / scale))
    told = {
        STYLE[place]: (float(weight), float(spread[place]))
        for place, weight in zip(used, weights[1:], strict=True)
    }
    return CalibrationMap(kind="debiased", temperature=1 / slope, style=told)


def _steps(data: Labelled) -> tuple[tuple[float, float], ...]:
    """Isotonic regression on the pairs and their mirrors, kept half a label away from certainty."""
    from sklearn.isotonic import IsotonicRegression

    edge = 0.5 / (len(data.margin) + 1)
    fit = IsotonicRegression(y_min=edge, y_max=1 - edge)
    fit.fit(np.append(data.margin, -data.margin), np.append(data.human, 1 - data.human))
    positive = fit.X_thresholds_ >= 0
    points = zip(fit.X_thresholds_[positive], fit.y_thresholds_[positive], strict=True)
    above = [(float(m), float(np.log(p / (1 - p)))) for m, p in points]
    return tuple(above) or ((0.0, 0.0),)


def log_loss(log_odds: Array, human: Array) -> float:
    """Mean of -log P of `human` (1, 0 or between) under sigmoid(`log_odds`); nats."""
    return float((np.logaddexp(0, log_odds) - human * log_odds).mean())


def folds(cluster: Sequence[str], seed: int = 0) -> npt.NDArray[np.int64]:
    """One of five folds for each observation, shape (n,); whole clusters, in a random order."""
    names = sorted(set(cluster), key=lambda name: content_hash([seed, name]))
    place = {name: number % _FOLDS for number, name in enumerate(names)}
    return np.array([place[name] for name in cluster], np.int64)


def cross_fitted(kind: MapKind, data: Labelled, seed: int = 0) -> Array:
    """t of every observation under a map fitted without its fold, shape (n,); 0, which is an even chance,
    where the other folds decide nothing."""
    fold, t = folds(data.cluster, seed), np.zeros(len(data.margin))
    for number in range(_FOLDS):
        inside, rest = fold == number, data[fold != number]
        if inside.any() and rest.decided.any():
            t[inside] = fit_map(kind, rest).log_odds(data.margin[inside], data.style[inside])
    return t


@dataclass(frozen=True, slots=True)
class Trial:
    """A kind of map, and its cross-fitted t; `log_loss` and `accuracy` of it on the decided labels.
    `gain`: by how much its log loss is better than the temperature's, `standard_error` of that."""

    kind: MapKind
    log_odds: Array
    log_loss: float
    accuracy: float
    gain: float = 0.0
    standard_error: float = field(default=0.0)


def try_maps(data: Labelled, kinds: Sequence[MapKind], seed: int = 0) -> dict[MapKind, Trial]:
    """Each kind cross-fitted, the temperature always among them."""
    decided = data.decided
    human = data.human[decided]
    trials: dict[MapKind, Trial] = {}
    base: Array = np.zeros(0)
    others = [kind for kind in kinds if kind != "temperature"]
    every: list[MapKind] = ["temperature", *others]
    for kind in every:
        t = cross_fitted(kind, data, seed)
        losses = np.logaddexp(0, t[decided]) - human * t[decided]
        base = losses if kind == "temperature" else base
        better = base - losses
        error = float(better.std(ddof=1) / np.sqrt(len(better))) if len(better) > 1 else 0.0
        right = np.where(t[decided] == 0, 0.5, (t[decided] > 0) == (human == 1))
        trials[kind] = Trial(kind, t, float(losses.mean()), float(right.mean()), float(better.mean()), error)
    return trials


def choose(trials: Mapping[MapKind, Trial]) -> MapKind:
    """The temperature, unless another map is better by more than two standard errors of the difference."""
    better = [trial for trial in trials.values() if trial.gain > 2 * trial.standard_error]
    return max(better, key=lambda trial: trial.gain).kind if better else "temperature"


def fit_principles(margins: Array, human: Array, prior: Array) -> Array:
    """Weight of each principle, shape (k,), none below 0, summing to 1.

    `margins`: (n, k) log-odds that a is better by each principle; `human`: (n,) 1 or 0; `prior`: (k,) shares.
    Logistic regression whose weights have a normal prior around `prior` with a standard deviation of 1 / k
    (after the principle scores of RLBFF, Wang et al. 2025, arXiv 2509.21319).
    """
    from scipy.optimize import minimize

    k = len(prior)

    def loss(weights: Array) -> tuple[float, Array]:
        t = margins @ weights
        rate = 1 / (1 + np.exp(-np.clip(t, -500, 500)))
        away = weights - prior
        value = float((np.logaddexp(0, t) - human * t).sum() + 0.5 * k**2 * (away @ away))
        return value, margins.T @ (rate - human) + k**2 * away

    found = minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=[(0, None)] * k)
    total = float(found.x.sum())
    weights: Array = found.x / total if total > 0 else prior
    return weights

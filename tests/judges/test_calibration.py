"""Maps from log-odds to the probability that people agree: closed forms, known truths, oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from making import candidate
from sklearn.linear_model import LogisticRegression

from judges.calibration import (
    STYLE,
    CalibrationMap,
    Labelled,
    choose,
    cross_fitted,
    fit_map,
    fit_principles,
    fit_temperature,
    fit_tie,
    folds,
    log_loss,
    style_difference,
    try_maps,
)
from prefgen.judgment import sigmoid


def labelled(n: int = 2000, temperature: float = 2.0, length: float = 0.0, seed: int = 0) -> Labelled:
    """People follow `margin` / `temperature` minus `length` times tanh of the standardised length."""
    random = np.random.default_rng(seed)
    margin = random.normal(0, 3, n)
    style = np.column_stack([random.normal(0, 100, n), np.zeros((n, 3))])
    t = margin / temperature - length * np.tanh(style[:, 0] / style[:, 0].std())
    human = (random.random(n) < 1 / (1 + np.exp(-t))).astype(np.float64)
    return Labelled(margin, style, human, [f"prompt {number // 2}" for number in range(n)])


def test_temperature_of_a_two_by_two_table() -> None:
    """Margins ±2, right three times out of four: sigmoid(2 / T) = 3/4, so T = 2 / ln 3."""
    margin = np.array([2.0, 2, 2, 2, -2, -2, -2, -2])
    human = np.array([1.0, 1, 1, 0, 0, 0, 0, 1])
    assert fit_temperature(margin, human) == pytest.approx(2 / math.log(3), rel=1e-5)


@pytest.mark.parametrize("kind", ["temperature", "debiased", "isotonic"])
@pytest.mark.parametrize("n", [10, 40, 200])
def test_no_map_is_surer_than_its_labels_allow(kind: str, n: int) -> None:
    """A judge that is always right on n labels: by the rule of succession (n + 1) / (n + 2) on average."""
    margin = np.random.default_rng(0).normal(0, 3, n)
    style = np.random.default_rng(1).normal(0, 50, (n, 4))
    data = Labelled(margin, style, (margin > 0).astype(np.float64), [str(number) for number in range(n)])
    fitted = fit_map(kind, data)  # type: ignore[arg-type]
    sure = fitted.agreement(np.abs(fitted.log_odds(margin, style)))
    assert sure.mean() <= (n + 1) / (n + 2) + 1e-6
    assert sure.mean() > 1 - 9 / n


def test_temperature_as_logistic_regression_without_intercept() -> None:
    data = labelled()
    oracle = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(
        data.margin[:, None], data.human
    )
    assert 1 / fit_temperature(data.margin, data.human) == pytest.approx(oracle.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize(("agrees", "limit"), [(True, 0.02), (False, 200.0)])
def test_temperature_stays_within_bounds(agrees: bool, limit: float) -> None:
    margin = np.linspace(0.5, 2, 20)
    human = np.full(20, 1.0 if agrees else 0.0)
    assert fit_temperature(margin, human) == pytest.approx(limit, rel=0.02)


def test_a_debiased_map_finds_the_liking_for_length() -> None:
    data = labelled(length=1.5)
    fitted = fit_map("debiased", data)
    weight, sd = fitted.style["length"]
    assert fitted.temperature == pytest.approx(2.0, rel=0.15)
    assert weight == pytest.approx(-1.5, abs=0.25)
    assert sd == pytest.approx(data.style[:, 0].std())
    assert set(fitted.style) == {"length"}, "features without spread are left out"


def test_the_better_map_is_chosen_only_where_it_is_clearly_better() -> None:
    kinds = ["temperature", "debiased", "isotonic"]
    assert choose(try_maps(labelled(), kinds)) == "temperature"  # type: ignore[arg-type]
    trials = try_maps(labelled(length=1.5), kinds)  # type: ignore[arg-type]
    assert choose(trials) == "debiased"
    assert trials["debiased"].accuracy > trials["temperature"].accuracy


@pytest.mark.parametrize("kind", ["temperature", "debiased", "isotonic"])
def test_maps_do_not_care_which_response_is_called_a(kind: str) -> None:
    data = labelled(400, length=1.0)
    mirrored = Labelled(-data.margin, -data.style, 1 - data.human, data.cluster)
    there, back = fit_map(kind, data), fit_map(kind, mirrored)  # type: ignore[arg-type]
    t = there.log_odds(data.margin, data.style)
    assert back.log_odds(data.margin, data.style) == pytest.approx(t, abs=1e-4)
    assert there.log_odds(-data.margin, -data.style) == pytest.approx(-t)


def test_isotonic_by_hand() -> None:
    """Margins 1, 2, 3 right in 3/4, 2/4 and 4/4 of four each: the first two pool at 5/8."""
    margin = np.repeat([1.0, 2.0, 3.0], 4)
    human = np.array([1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1], np.float64)
    fitted = fit_map("isotonic", Labelled(margin, np.zeros((12, 4)), human, [str(n) for n in range(12)]))
    told = 1 / (1 + np.exp(-fitted.log_odds(np.array([1.0, 2.0, 3.0]), np.zeros((3, 4)))))
    assert told == pytest.approx([5 / 8, 5 / 8, 1 - 0.5 / 13])


def test_cross_fitting_never_shows_a_map_its_own_label() -> None:
    """Labels are coins: maps fitted on them look better than a coin on them and not on others."""
    inside, outside = [], []
    for seed in range(10):
        random = np.random.default_rng(seed)
        margin, style = random.normal(0, 2, 60), random.normal(0, 50, (60, 4))
        data = Labelled(margin, style, random.integers(0, 2, 60) * 1.0, [str(n) for n in range(60)])
        inside.append(log_loss(fit_map("debiased", data).log_odds(margin, style), data.human))
        outside.append(log_loss(cross_fitted("debiased", data), data.human))
    assert np.mean(inside) < math.log(2) < np.mean(outside)


def test_folds_keep_prompts_together() -> None:
    cluster = [f"p{number // 3}" for number in range(90)]
    fold = folds(cluster)
    assert sorted(set(fold)) == [0, 1, 2, 3, 4]
    assert all(len({int(fold[place]) for place in range(start, start + 3)}) == 1 for start in range(0, 90, 3))


def test_davidson_ties_by_hand() -> None:
    """All margins 0: P(tie) = nu / (2 + nu), so 20 ties in 60 give nu = 1 and P(a) = 1/3."""
    assert fit_tie(np.zeros(60), 20) == pytest.approx(1.0)
    fitted = CalibrationMap(kind="temperature", temperature=1.0, tie=1.0)
    assert fitted.agreement(np.array([0.0]))[0] == pytest.approx(1 / 3)
    assert fit_tie(np.zeros(60), 0) == 0.0


def test_a_debiased_map_reads_the_texts() -> None:
    fitted = CalibrationMap(kind="debiased", temperature=1.0, style={"length": (-1.0, 10.0)})
    long, short = candidate("x" * 30), candidate("x" * 10)
    assert fitted.probability(1.0, long, short) == pytest.approx(sigmoid(1.0 - math.tanh(2.0)))
    assert fitted.probability(1.0, short, long) == pytest.approx(sigmoid(1.0 + math.tanh(2.0)))


def test_extreme_log_odds_do_not_overflow() -> None:
    fitted = CalibrationMap(kind="temperature", temperature=0.02, tie=0.5)
    told = fitted.agreement(fitted.log_odds(np.array([-1e6, 0.0, 1e6]), np.zeros((3, 4))))
    assert told == pytest.approx([0.0, 1 / 2.5, 1.0])


def test_style_is_counted_from_the_texts() -> None:
    assert style_difference("# Title\n- one\n- **two**", "plain") == [18.0, 2.0, 1.0, 1.0]
    assert STYLE == ("length", "lists", "headers", "bold")


def test_principles_that_people_follow_get_the_weight() -> None:
    random = np.random.default_rng(0)
    margins = random.normal(0, 2, (600, 3))
    human = (random.random(600) < 1 / (1 + np.exp(-margins @ [0.8, 0.2, 0.0]))).astype(np.float64)
    weights = fit_principles(margins, human, np.full(3, 1 / 3))
    assert weights.sum() == pytest.approx(1)
    assert weights == pytest.approx([0.8, 0.2, 0.0], abs=0.08)


def test_without_labels_principles_keep_their_prior() -> None:
    prior = np.array([0.5, 0.3, 0.2])
    assert fit_principles(np.zeros((0, 3)), np.zeros(0), prior) == pytest.approx(prior)


def test_a_principle_that_people_dislike_gets_none_and_no_less() -> None:
    margins = np.random.default_rng(1).normal(0, 2, (400, 2))
    human = (margins[:, 0] > margins[:, 1]).astype(np.float64)
    weights = fit_principles(margins, human, np.full(2, 0.5))
    assert weights == pytest.approx([1.0, 0.0])


def test_no_decided_label_is_said() -> None:
    data = Labelled(np.ones(3), np.zeros((3, 4)), np.full(3, 0.5), ["1", "2", "3"])
    with pytest.raises(ValueError, match="no label decides"):
        fit_map("temperature", data)

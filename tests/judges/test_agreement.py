"""Agreement statistics against hand-worked tables and reference implementations."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support

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
from prefgen.judgment import Verdict


def table(human: list[Verdict], judge: list[Verdict]) -> np.ndarray:
    return confusion(codes(human), codes(judge), np.ones((1, len(human))))


def random_labels(seed: int, n: int = 60) -> tuple[list[Verdict], list[Verdict]]:
    random = np.random.default_rng(seed)
    human = random.integers(0, 3, n)
    judge = np.where(random.random(n) < 0.6, human, random.integers(0, 3, n))
    return [VERDICTS[code] for code in human], [VERDICTS[code] for code in judge]


def test_a_table_by_hand() -> None:
    # Rows human, columns judge: a 20 5 0, b 10 15 0 (Cohen's example): po = .7, pe = .5, kappa = .4.
    human: list[Verdict] = ["a"] * 25 + ["b"] * 25
    judge: list[Verdict] = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    tables = table(human, judge)
    assert tables[0].tolist() == [[20, 5, 0], [10, 15, 0], [0, 0, 0]]
    assert agreement(tables)[0] == pytest.approx(0.7)
    assert kappa(tables)[0] == pytest.approx(0.4)
    # Only a and b occur: precision (20/30 + 15/20) / 2, recall (20/25 + 15/25) / 2.
    assert precision_recall_f1(tables)[0][:2] == pytest.approx([(2 / 3 + 0.75) / 2, 0.7])


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn(seed: int) -> None:
    human, judge = random_labels(seed)
    tables = table(human, judge)
    assert agreement(tables)[0] == pytest.approx(accuracy_score(human, judge), abs=1e-9)
    assert kappa(tables)[0] == pytest.approx(cohen_kappa_score(human, judge), abs=1e-9)
    expected = precision_recall_fscore_support(human, judge, average="macro", zero_division=0)[:3]
    assert precision_recall_f1(tables)[0] == pytest.approx(expected, abs=1e-9)


def test_weights_count_observations_several_times() -> None:
    human, judge = random_labels(7, 10)
    weights = np.array([[1.0, 2, 0, 3, 1, 0, 2, 1, 1, 4]])
    repeated = [place for place, count in enumerate(weights[0]) for _ in range(int(count))]
    again = table([human[place] for place in repeated], [judge[place] for place in repeated])
    assert confusion(codes(human), codes(judge), weights) == pytest.approx(again)


def test_kappa_is_undefined_where_chance_always_agrees() -> None:
    assert np.isnan(kappa(table(["a", "a"], ["a", "a"]))[0])


@pytest.mark.parametrize("seed", range(5))
def test_alpha_as_the_krippendorff_package(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, 40)
    ratings = np.where(random.random((4, 40)) < 0.7, truth, random.integers(0, 3, (4, 40))).astype(float)
    ratings[random.random((4, 40)) < 0.3] = np.nan  # Missing votes.
    items = [[VERDICTS[int(code)] for code in column if not np.isnan(code)] for column in ratings.T]
    expected = krippendorff.alpha(reliability_data=ratings, level_of_measurement="nominal")
    assert krippendorff_alpha(items) == pytest.approx(expected, abs=1e-9)


def test_alpha_needs_variation_and_two_votes() -> None:
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a"], ["b"]]) is None


def test_two_annotators_drawn_at_random() -> None:
    assert human_agreement(["a", "a", "b"]) == pytest.approx(1 / 3)
    assert human_agreement(["a", "a", "a", "b"]) == pytest.approx(0.5)
    assert human_agreement(["a"]) is None


def test_pairwise_kappas_are_of_shared_items() -> None:
    items = [
        [("x", "a"), ("y", "a")],
        [("x", "b"), ("y", "b"), ("z", "a")],
        [("x", "a"), ("y", "b")],
        [("y", "a"), (None, "b")],
        [("x", "b"), ("y", "a")],
    ]
    # x and y share four items: a/a, b/b, a/b, b/a, so chance level; z shares one with each: not enough.
    assert pairwise_kappas(items) == {"x|y": pytest.approx(0.0)}  # type: ignore[arg-type]


def three_annotators(n: int, flip: float, judge_flip: float, seed: int = 0) -> tuple[list, list]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, n)

    def noisy(rate: float) -> list[Verdict]:
        return [VERDICTS[code] for code in np.where(random.random(n) < rate, 1 - truth, truth)]

    people = [noisy(flip) for _ in range(3)]
    votes = [
        [(f"annotator {number}", labels[item]) for number, labels in enumerate(people)] for item in range(n)
    ]
    return votes, noisy(judge_flip)


def test_a_judge_as_good_as_people_passes_and_a_bad_one_does_not() -> None:
    votes, judge = three_annotators(200, flip=0.15, judge_flip=0.1)
    told = alternative_annotator_test(votes, judge, epsilon=0.1)
    assert told is not None
    assert told.passed
    assert told.winning_rate == 1.0
    votes, judge = three_annotators(200, flip=0.05, judge_flip=0.45)
    told = alternative_annotator_test(votes, judge, epsilon=0.1)
    assert told is not None
    assert not told.passed


def test_the_alternative_annotator_by_hand() -> None:
    """Each annotator against the two others: on an item voted a a b with judge a, those who said a agree with
    one of the two others, as does the judge (both at least as close); b's writer agrees with none, the judge
    with both."""
    votes = [[("x", "a"), ("y", "a"), ("z", "b")]] * 30
    told = alternative_annotator_test(votes, ["a"] * 30, epsilon=0.1)  # type: ignore[arg-type, list-item]
    assert told is not None
    assert told.advantages == {"x": 0.0, "y": 0.0, "z": 1.0}
    assert told.average_advantage == 1.0


def test_fewer_than_three_annotators_or_thirty_items_give_no_test() -> None:
    votes, judge = three_annotators(29, 0.1, 0.1)
    assert alternative_annotator_test(votes, judge) is None
    votes, judge = three_annotators(60, 0.1, 0.1)
    assert alternative_annotator_test([item[:2] for item in votes], judge) is None

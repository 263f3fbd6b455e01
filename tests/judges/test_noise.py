"""The label-noise detector: flips are found, chance is left alone, and being chosen teaches nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from judges.intervals import Estimate
from judges.noise import CrossFit, by_size, cross_fit, word_features


def flipped(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(differences with given labels, which were flipped): 16 features, clear pairs, 20% flips."""
    random = np.random.default_rng(seed)
    features, weights = random.standard_normal((4 * n, 16)), random.standard_normal(16)
    odds = 2 * features @ weights / np.linalg.norm(weights)
    clear = np.abs(odds) > 1.1
    features, odds = features[clear][:n], odds[clear][:n]
    flips = random.permutation(n) < n // 5
    return features * np.where(flips, -1, 1)[:, None] * np.sign(odds)[:, None], flips


def test_flips_are_found() -> None:
    difference, flips = flipped(1000)
    fit = cross_fit(difference, range(1000))
    assert fit is not None
    assert fit.learnable
    assert flips[fit.suspicious(0.2)].mean() >= 0.85
    by_threshold = fit.suspicious()
    assert 0.05 < len(by_threshold) / 1000 < 0.25
    assert flips[by_threshold].mean() >= 0.95


def test_flips_of_texts_are_found() -> None:
    draw = np.random.default_rng(1)
    good, bad, rest = (
        np.array([f"{kind}{n}" for n in range(size)]) for kind, size in (("g", 8), ("b", 8), ("w", 500))
    )

    def text(kind: np.ndarray) -> str:
        return " ".join([*draw.choice(kind, 4), *draw.choice(rest, 30)])

    n, flips = 600, draw.permutation(600) < 120
    sides = [(text(bad), text(good)) if flip else (text(good), text(bad)) for flip in flips]
    features = word_features([chosen for chosen, _ in sides] + [rejected for _, rejected in sides])
    fit = cross_fit(features[:n] - features[n:], range(n))
    assert fit is not None
    assert flips[fit.suspicious(0.2)].mean() >= 0.85


def test_without_signal_nothing_is_flagged() -> None:
    """Chosen by a coin: the features say nothing, however many there are."""
    random = np.random.default_rng(2)
    fit = cross_fit(random.standard_normal((800, 32)), range(800))
    assert fit is not None
    assert 0.4 < fit.auc < 0.6
    assert not fit.learnable
    assert not len(fit.suspicious())
    assert not len(fit.suspicious(0.2))


def test_a_group_never_teaches_about_itself() -> None:
    """Each group has a column of its own, which would give every label away."""
    groups = np.repeat(np.arange(60), 4)
    fit = cross_fit(csr_matrix(np.eye(60)[groups]), groups)
    assert fit is not None
    assert fit.probability == pytest.approx(0.5)
    assert (fit.auc, fit.agreement.value) == (0.5, 0.5)


def test_turning_all_pairs_round_teaches_nothing() -> None:
    """There is no constant: with all pairs turned the differences change sign and the labels stay chosen."""
    difference, _ = flipped(300)
    one, other = cross_fit(difference, range(300)), cross_fit(-difference, range(300))
    assert one is not None
    assert other is not None
    assert one.probability == pytest.approx(other.probability, abs=1e-3)


def test_few_prompts_say_nothing() -> None:
    difference, _ = flipped(300)
    assert cross_fit(difference, np.arange(300) % 49) is None
    assert cross_fit(difference[:0], []) is None
    assert cross_fit(difference, np.arange(300) % 50) is not None


def test_the_auc_is_that_of_the_pairs_and_their_mirrors() -> None:
    difference, _ = flipped(200)
    fit = cross_fit(difference, range(200))
    assert fit is not None
    both = np.concatenate([fit.probability, 1 - fit.probability])
    assert fit.auc == pytest.approx(roc_auc_score([1] * 200 + [0] * 200, both))


def test_the_threshold_by_hand() -> None:
    """Labels that the model agrees with get .9 on average, so those below .1 are flagged, lowest first."""
    fit = CrossFit(np.array([0.95, 0.09, 0.85, 0.11, 0.02, 0.3]), 0.8, Estimate(0.7, (0.6, 0.8)))
    assert fit.suspicious().tolist() == [4, 1]
    assert fit.suspicious(0.5).tolist() == [4, 1, 3]


def test_columns_of_one_size() -> None:
    scaled = by_size(np.array([[3.0, 0.0], [-4.0, 0.0]]))
    assert scaled[:, 0] == pytest.approx([3 / 12.5**0.5, -4 / 12.5**0.5])
    assert scaled[:, 1].tolist() == [0.0, 0.0]

"""Which given labels look wrong: pairs that a model of the other pairs would have labelled the other way.

Confident learning (Northcutt et al. 2021, arXiv 1911.00068) for preferences, with cross-fitted models as in
Wang et al. 2024 (arXiv 2401.06080). Features are differences, chosen minus rejected, and the logistic
regression has no constant: exchanging the sides turns the sign of its log-odds and does nothing else, so
that being called chosen teaches it nothing. The judge's margin is no feature, since its sign is the label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from judges.intervals import Array, Estimate, bootstrap, weighted_mean
from prefgen.decontamination import words

FOLDS = 5
FEWEST = 50
"""Groups below which nothing is said."""
LEARNABLE = 0.6
"""AUC on held-out pairs below which there is too little signal to call a label wrong."""
_PENALTIES = (0.1, 1.0, 10.0)
"""Inverse strengths of the ridge penalty that are tried."""
_HASHES = 2**18


@dataclass(frozen=True, slots=True)
class CrossFit:
    """What models of the other folds make of each pair.

    `probability`: that the given label is right, shape (n,). `auc`: that a pair as given gets more than a
    pair turned round. `agreement`: share of the pairs that get the label they have, ties half.
    """

    probability: Array
    auc: float
    agreement: Estimate

    @property
    def learnable(self) -> bool:
        return self.auc >= LEARNABLE and self.agreement.ci[0] > 0.5

    def suspicious(self, share: float | None = None) -> npt.NDArray[np.intp]:
        """Places of the pairs whose label looks wrong, the most suspicious first; none without signal.

        `share`: of all pairs. By default those where the other label gets more than labels that the models
        agree with get on average, which is confident learning's threshold.
        """
        order = np.argsort(self.probability, kind="stable")
        if not self.learnable:
            return order[:0]
        if share is not None:
            return order[: round(share * len(order))]
        usual = self.probability[self.probability > 0.5].mean()
        return order[: int((self.probability < 1 - usual).sum())]


def cross_fit(difference: Any, groups: Sequence[object], *, seed: int = 0) -> CrossFit | None:
    """Held-out P(given label is right) of each pair.

    `difference`: features of chosen minus features of rejected, shape (n, k), dense or scipy sparse: any
    embedding will do. Dense columns are brought to one size. `groups`: one name a pair, such as its prompt:
    a group is in one fold. The ridge penalty is the one of the best held-out likelihood. None for fewer
    than 50 groups.
    """
    _, place = np.unique(np.array([str(name) for name in groups]), return_inverse=True)
    if not len(place) or int(place.max()) + 1 < FEWEST:
        return None
    features = by_size(difference) if isinstance(difference, np.ndarray) else _used(difference)
    odds = max((_held_out(features, place, penalty, seed) for penalty in _PENALTIES), key=_likelihood)
    agreement = bootstrap(weighted_mean(np.where(odds == 0, 0.5, odds > 0)), groups, seed=seed)
    assert agreement is not None, "a mean of at least one value"
    return CrossFit(np.exp(-np.logaddexp(0, -odds)), _auc(odds), agreement)


def by_size(difference: Array) -> Array:
    """Columns over their root mean square. Not centred: what is 0 on both sides must stay 0."""
    size = np.sqrt((difference**2).mean(axis=0))
    scaled: Array = difference / np.where(size > 0, size, 1)
    return scaled


def _used(difference: Any) -> Any:
    """Without the columns that are empty, which are most of the hashed ones."""
    rows = difference.tocsr()
    return rows[:, np.unique(rows.indices)]


def word_features(texts: Iterable[str]) -> Any:
    """Hashed words and pairs of words of each text, as TF-IDF: scipy sparse, shape (n, 262144)."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    hashing = HashingVectorizer(
        n_features=_HASHES,
        ngram_range=(1, 2),
        norm=None,
        alternate_sign=False,
        tokenizer=words,
        token_pattern=None,
        lowercase=False,
    )
    return TfidfTransformer(sublinear_tf=True).fit_transform(hashing.transform(texts))


def _held_out(features: Any, place: npt.NDArray[np.intp], penalty: float, seed: int) -> Array:
    """Log-odds of the given labels. Every other training pair is turned round: there must be two classes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    odds = np.zeros(len(place))
    sign = np.where(np.arange(len(place)) % 2, -1.0, 1.0)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(odds, groups=place):
        # The dual is the faster one for texts, which have more words than there are pairs.
        dual = not isinstance(features, np.ndarray)
        model = LogisticRegression(
            C=penalty, fit_intercept=False, solver="liblinear", dual=dual, max_iter=10_000, random_state=seed
        )
        model.fit(_turned(features[train], sign[train]), sign[train])
        odds[test] = model.decision_function(features[test])
    return odds


def _turned(features: Any, sign: Array) -> Any:
    if isinstance(features, np.ndarray):
        return features * sign[:, None]
    return features.multiply(sign[:, None]).tocsr()


def _likelihood(odds: Array) -> float:
    return -float(np.logaddexp(0, -odds).mean())


def _auc(odds: Array) -> float:
    from scipy.stats import rankdata

    n = len(odds)
    ranks = rankdata(np.concatenate([odds, -odds]))[:n]
    return float((ranks.sum() - n * (n + 1) / 2) / n**2)

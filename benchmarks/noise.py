"""Label-noise detector: 20% of the labels flipped, precision among the 20% most suspicious.

    clear   the better response was chosen and pairs below 75% confidence were dropped, as `generate` does
    all     the better response was chosen, near-ties included
    drawn   chosen was drawn by Bradley-Terry, near-ties included: before any flip a sixth is wrong

Wrong is what contradicts the true odds: in the first two exactly the flipped labels.
"""

from __future__ import annotations

import random
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from judges.noise import CrossFit, cross_fit, word_features

Array = npt.NDArray[np.float64]
Labels = Literal["clear", "all", "drawn"]
Found = tuple[CrossFit | None, npt.NDArray[np.bool_]]
"""The fit, and which given labels are wrong."""
FLIPPED = FLAGGED = 0.2
SEEDS = 3
SPREAD = 2.0
"""Standard deviation of the true log-odds between two responses."""
_GOOD = ("because", "example", "step", "first", "then", "exactly", "therefore", "check", "reason", "detail")
_BAD = ("whatever", "maybe", "stuff", "unsure", "dunno", "thing", "somehow", "basically", "sorry", "never")
_SYLLABLES = ("ta", "mi", "ro", "lek", "sun", "bra", "no", "ki", "vel", "dor", "pax", "ust", "gon", "fer")


def label(true_odds: Array, random_: np.random.Generator, labels: Labels) -> Array:
    """+1 where the first response is called chosen, else -1; a share of them flipped."""
    chance = 1 / (1 + np.exp(-true_odds)) if labels == "drawn" else true_odds > 0
    given = np.where(random_.random(len(true_odds)) < chance, 1.0, -1.0)
    flips = random_.permutation(len(given)) < round(FLIPPED * len(given))
    return np.where(flips, -given, given)


def kept(odds: Array, n: int, labels: Labels) -> npt.NDArray[np.intp]:
    """Places of the first n pairs that are looked at."""
    return np.flatnonzero(np.abs(odds) > (np.log(3) if labels == "clear" else 0))[:n]


def gaussian(n: int, seed: int, labels: Labels) -> Found:
    """32 features, as of an embedding."""
    random_ = np.random.default_rng(seed)
    features, weights = random_.standard_normal((3 * n, 32)), random_.standard_normal(32)
    odds = features @ (weights * SPREAD / np.linalg.norm(weights))
    places = kept(odds, n, labels)
    features, odds = features[places], odds[places]
    given = label(odds, random_, labels)
    return cross_fit(features * given[:, None], range(n)), given * odds < 0


def written(n: int, seed: int, labels: Labels) -> Found:
    """Texts of 40 to 120 words; the better response has more words of one kind and fewer of another."""
    draw, random_ = random.Random(seed), np.random.default_rng(seed)
    vocabulary = ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 4))) for _ in range(3000)]
    quality = random_.standard_normal((3 * n, 2)) * SPREAD / np.sqrt(2)
    odds = quality[:, 0] - quality[:, 1]
    places = kept(odds, n, labels)
    quality, odds = quality[places], odds[places]
    given = label(odds, random_, labels)
    texts = [text(draw, vocabulary, value) for value in quality.T.ravel()]
    features = word_features(texts)
    difference = (features[:n] - features[n:]).multiply(given[:, None])
    return cross_fit(difference, range(n)), given * odds < 0


def text(draw: random.Random, vocabulary: list[str], quality: float) -> str:
    length = draw.randint(40, 120)
    good = 0.3 / (1 + np.exp(-quality))
    kinds = draw.choices((_GOOD, _BAD, vocabulary), (good, 0.3 - good, 0.7), k=length)
    return " ".join(draw.choice(kind) for kind in kinds)


def main() -> None:
    print("of        labels     n   AUC   20% flagged: precision, recall   by threshold: share, precision")
    for name, make in (("features", gaussian), ("texts", written)):
        for labels in get_args(Labels):
            for n in (1000, 4000):
                rows = [summary(*make(n, seed, labels)) for seed in range(SEEDS)]
                auc, precision, recall, share, other = np.mean(rows, axis=0)
                print(
                    f"{name:9s} {labels:6s} {n:5d}  {auc:.2f} {precision:23.3f}, {recall:.2f} "
                    f"{share:22.1%}, {other:.3f}"
                )


def summary(fit: CrossFit | None, wrong: npt.NDArray[np.bool_]) -> list[float]:
    assert fit is not None
    worst, flagged = fit.suspicious(FLAGGED), fit.suspicious()
    told = [fit.auc, wrong[worst].mean(), wrong[worst].sum() / wrong.sum()]
    return [float(value) for value in (*told, len(flagged) / len(wrong), wrong[flagged].mean())]


if __name__ == "__main__":
    main()

"""Scores from matches in which one side was shown first: Bradley-Terry, and Davidson's extension to ties.

Both are the same model, with utilities of a match's outcomes and a strength s for every player,

    first wins   s_first + b / 2            second wins   s_second - b / 2
    tie          log nu + (s_first + s_second) / 2

so that P(first beats second) = sigmoid(s_first - s_second + b). The slot term b, the judge's liking for what
it is shown first, is shared by all matches.

The matches of one prompt determine b poorly, and the strength of a player who won them all not at all. So the
fit is the posterior mode under s ~ N(0, SCORE_SD^2), log nu the same, and b ~ N(0, SLOT_SD^2): wide for the
scores, which are the question, and no wider for b than judges are known to lean. Where the matches cannot
tell b from quality it stays near 0, and the scores follow the outcomes. Nothing is learnt from other prompts,
so that what was stored of a prompt gives the same scores again.

Bradley and Terry 1952; Davidson 1970; slot term: Davidson and Beaver 1977.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
SCORE_SD, SLOT_SD = 2.0, 1.0
"""Standard deviations of the prior, in log-odds."""
_STEPS, _PRECISION = 100, 1e-10


@dataclass(frozen=True, slots=True)
class Strengths:
    """`scores`: shape (n,), log-odds, mean zero. `slot`: b, log-odds towards what is shown first. `nu`:
    between equals, a tie is so many times as likely as the win of one side."""

    scores: Array
    slot: float
    nu: float = 0.0


def bradley_terry(first: Places, second: Places, wins: Array, n: int) -> Strengths:
    """`first`, `second`: which of `n` players met, shape (m,). `wins`: how far the first one won, 0..1; a
    probability is a soft outcome with likelihood p log P + (1 - p) log(1 - P). Raises ValueError for
    `wins` outside 0..1."""
    shares = np.column_stack([wins, 1 - wins])
    fitted = _posterior_mode(_utilities(first, second, n), shares, n)
    return Strengths(fitted[:n], float(fitted[n]))


def davidson(first: Places, second: Places, outcomes: Array, n: int) -> Strengths:
    """As `bradley_terry`, with ties. `outcomes`: shape (m, 3), counts or shares of a win of the first, a win
    of the second, and a tie. Raises ValueError for negative ones."""
    sides = _utilities(first, second, n)
    tie = sides.mean(axis=1, keepdims=True)
    design = np.concatenate([sides, tie], axis=1)
    with_nu = np.concatenate([design, np.zeros((*design.shape[:2], 1))], axis=2)
    with_nu[:, 2, -1] = 1
    fitted = _posterior_mode(with_nu, outcomes, n)
    return Strengths(fitted[:n], float(fitted[n]), float(np.exp(fitted[n + 1])))


def _utilities(first: Places, second: Places, n: int) -> Array:
    """What the parameters (n scores, b) add to the first's and the second's win, shape (m, 2, n + 1)."""
    design, match = np.zeros((len(first), 2, n + 1)), np.arange(len(first))
    design[match, 0, first] = design[match, 1, second] = 1
    design[:, 0, n], design[:, 1, n] = 0.5, -0.5
    return design


def _posterior_mode(design: Array, outcomes: Array, n: int) -> Array:
    """Newton's method on a concave function; a step is halved until it climbs.

    `design`: utilities, shape (m, outcomes, parameters). `outcomes`: shape (m, outcomes), not negative.
    """
    if not (outcomes >= 0).all():
        raise ValueError("outcomes of a match are counts or shares: none may be negative or NaN")
    prior = np.full(design.shape[2], SCORE_SD**-2)
    prior[n] = SLOT_SD**-2
    played = outcomes.sum(axis=1, keepdims=True)

    def height(at: Array) -> float:
        return float((outcomes * _log_shares(design @ at)).sum() - at @ (prior * at) / 2)

    theta = np.zeros(design.shape[2])
    for _ in range(_STEPS):
        chances = np.exp(_log_shares(design @ theta))
        gradient = np.einsum("mo,mop->p", outcomes - played * chances, design) - prior * theta
        centred = design - np.einsum("mo,mop->mp", chances, design)[:, None]
        curvature = np.einsum("mo,mop,moq->pq", played * chances, centred, centred) + np.diag(prior)
        step = np.linalg.solve(curvature, gradient)
        while height(theta + step) < height(theta) and np.abs(step).max() > _PRECISION:
            step = step / 2
        theta = theta + step
        if np.abs(step).max() < _PRECISION:
            break
    return theta


def _log_shares(utilities: Array) -> Array:
    shifted = utilities - utilities.max(axis=1, keepdims=True)
    shares: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shares

"""Could the difference be chance, and how many prompts would show a real one?

Prompts of one cluster are alike, so a cluster counts as one observation in every test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from judges.intervals import Array

_EXACT = 14
"""Up to so many clusters every pattern of signs is tried (16,384 of them)."""
_CHUNK = 250


def cluster_sums(values: Array, clusters: Sequence[object]) -> Array:
    """The sum of the values of each cluster. `clusters`: one name a value."""
    _, place = np.unique(np.array([str(name) for name in clusters]), return_inverse=True)
    return np.bincount(place, values).astype(np.float64)


def clustered_standard_error(values: Array, clusters: Sequence[object]) -> float:
    """Standard error of the mean where whole clusters were drawn; NaN for fewer than two clusters.

    √(C / (C - 1) · Σ_c (Σ_{i in c} (x_i - mean))²) / n (Liang and Zeger 1986); with one value a cluster it is
    sd / √n.
    """
    sums = cluster_sums(values - values.mean(), clusters)
    if len(sums) < 2:
        return float("nan")
    return math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(values)


def sign_test(differences: Array) -> float:
    """Two-sided exact p-value that as many differences are above 0 as below; zeros are left out."""
    from scipy.stats import binomtest

    above, below = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(above, above + below).pvalue) if above + below else 1.0


def sign_flip_test(differences: Array, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that the differences are as likely to have the other sign (Fisher 1935).

    This is what holds when the names of model and baseline could be exchanged. Exact up to 14 differences;
    beyond, from random signs, the observed ones counted among them (Phipson and Smyth 2010).
    """
    n, seen = len(differences), abs(float(differences.sum())) * (1 - 1e-12)
    if n <= _EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ differences) >= seen).mean())
    random, beyond = np.random.default_rng(seed), 0
    for start in range(0, resamples, _CHUNK):
        signs = random.integers(0, 2, (min(_CHUNK, resamples - start), n)) * 2 - 1
        beyond += int((np.abs(signs @ differences) >= seen).sum())
    return (beyond + 1) / (resamples + 1)


def prompts_needed(spread: float, difference: float, *, power: float = 0.8, level: float = 0.95) -> int:
    """Prompts at which a true `difference` from no difference is found with probability `power`.

    (z_{(1 + level) / 2} + z_power)² · spread² / difference², rounded up. `spread`: standard deviation of one
    prompt, in the unit of `difference`.
    """
    return math.ceil((_reach(power, level) * spread / difference) ** 2)


def detectable_difference(standard_error: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """The smallest true difference that so precise an estimate finds with probability `power`."""
    return _reach(power, level) * standard_error


def _reach(power: float, level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)

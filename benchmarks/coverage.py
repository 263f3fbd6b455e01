"""Coverage of every interval of `prefgen evaluate`: how often a 95% interval holds the truth.

Each prompt has a true difference in quality; people see it with noise, and so does the judge, who is also
taken in by length. A line is 2,000 simulated evaluations of n prompts; corrections by human labels have n
labels and 600 prompts without. Intervals marked "≥" promise 95% at least, the others should be at 93–97%.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judges.correction import prediction_powered, rogan_gladen
from judges.intervals import Statistic, bootstrap, clopper_pearson, weighted_mean
from judges.sequential import confidence_sequence
from judges.style import style_control
from judges.win_rate import length_control

Array = npt.NDArray[np.float64]
Interval = tuple[float, float] | None
UNLABELLED = 600
RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Drawn:
    """One evaluation. `judge`, `other`: preferences for two models over one baseline, in 0..1; `human`: 1 or
    0, for the first; `length`: how many characters longer than the baseline's 200 its answers are."""

    judge: Array
    other: Array
    human: Array
    length: Array


def draw(random: np.random.Generator, n: int, per_cluster: int = 1) -> Drawn:
    """A model that is a little better than its baseline, and longer where it is better."""
    shared = np.repeat(random.normal(0.3, 1.0, -(-n // per_cluster)), per_cluster)[:n]
    quality = shared + random.normal(0, 0.8, n)
    length = 20 * quality + random.normal(10, 30, n)
    human = (random.random(n) < sigmoid(1.5 * quality)).astype(np.float64)
    seen = 2 * (quality + random.normal(0, 0.7, n)) + 0.6 * np.tanh(length / 36)
    other = 2 * (shared - 0.2 + random.normal(0, 1.0, n))
    return Drawn(sigmoid(seen), sigmoid(other), human, length)


def sigmoid(x: Array) -> Array:
    rate: Array = 1 / (1 + np.exp(-x))
    return rate


def resampled(statistic: Statistic, clusters: Sequence[object], seed: int) -> Interval:
    found = bootstrap(statistic, clusters, resamples=RESAMPLES, seed=seed)
    return found.ci if found else None


def win_rate(drawn: Drawn, n: int, seed: int) -> Interval:
    return resampled(weighted_mean(drawn.judge), range(n), seed)


def clustered(drawn: Drawn, n: int, seed: int) -> Interval:
    return resampled(weighted_mean(drawn.judge), (np.arange(n) // 4).tolist(), seed)


def paired(drawn: Drawn, n: int, seed: int) -> Interval:
    return resampled(weighted_mean(drawn.judge - drawn.other), range(n), seed)


def at_equal_length(drawn: Drawn) -> Statistic:
    return length_control(drawn.judge, 200 + drawn.length, np.full(len(drawn.length), 200.0))


def at_equal_style(drawn: Drawn) -> Statistic:
    return style_control(drawn.judge, (drawn.length / (400 + drawn.length))[:, None])


def length_controlled(drawn: Drawn, n: int, seed: int) -> Interval:
    return resampled(at_equal_length(drawn), range(n), seed)


def style_controlled(drawn: Drawn, n: int, seed: int) -> Interval:
    return resampled(at_equal_style(drawn), range(n), seed)


def powered(drawn: Drawn, n: int, seed: int) -> Interval:
    found = prediction_powered(drawn.human[:n], drawn.judge[:n], drawn.judge[n:])
    return found.estimate.ci if found else None


def corrected(drawn: Drawn, n: int, seed: int) -> Interval:
    win, called = drawn.human[:n] == 1, drawn.judge > 0.5
    right_wins, right_losses = float(called[:n][win].sum()), float((~called[:n][~win]).sum())
    raw = float(called[n:].mean())
    found = rogan_gladen(raw, UNLABELLED, right_wins, int(win.sum()), right_losses, int((~win).sum()))
    return found.estimate.ci if found and found.estimate else None


def exact(drawn: Drawn, n: int, seed: int) -> Interval:
    return clopper_pearson(int(drawn.human.sum()), n)


def at_every_look(drawn: Drawn, n: int, seed: int) -> Interval:
    """The narrowest so far after n prompts: it holds the truth only where every one before did."""
    low, high = confidence_sequence(drawn.judge)[-1]
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Case:
    """`truth`: the value to be held, from a very large drawing."""

    name: str
    interval: Callable[[Drawn, int, int], Interval]
    truth: Callable[[Drawn], float]
    sizes: tuple[int, ...]
    unlabelled: int = 0
    per_cluster: int = 1
    at_least: bool = False


def judge_mean(drawn: Drawn) -> float:
    return float(drawn.judge.mean())


def human_mean(drawn: Drawn) -> float:
    return float(drawn.human.mean())


def value_of(statistic: Statistic, n: int) -> float:
    return float(statistic(np.ones((1, n)))[0])


CASES = (
    Case("win rate, bootstrap", win_rate, judge_mean, (50, 200)),
    Case("win rate, clusters of four", clustered, judge_mean, (200,), per_cluster=4),
    Case("paired difference", paired, lambda drawn: float((drawn.judge - drawn.other).mean()), (50, 200)),
    Case(
        "length-controlled",
        length_controlled,
        lambda drawn: value_of(at_equal_length(drawn), len(drawn.judge)),
        (100,),
    ),
    Case(
        "style-controlled",
        style_controlled,
        lambda drawn: value_of(at_equal_style(drawn), len(drawn.judge)),
        (100,),
    ),
    Case("prediction-powered (PPI++)", powered, human_mean, (50, 200), UNLABELLED),
    Case("Rogan-Gladen", corrected, human_mean, (50, 200), UNLABELLED),
    Case("Clopper-Pearson", exact, human_mean, (100,), at_least=True),
    Case("at every look (betting)", at_every_look, judge_mean, (200,), at_least=True),
)


def coverage(case: Case, n: int, truth: float, simulations: int, seed: int = 0) -> tuple[float, float, int]:
    """Share of the intervals that hold `truth`, their mean width, and how many there were none."""
    random = np.random.default_rng(seed)
    found = [
        case.interval(draw(random, n + case.unlabelled, case.per_cluster), n, number)
        for number in range(simulations)
    ]
    given = [interval for interval in found if interval is not None]
    held = sum(low <= truth <= high for low, high in given)
    return held / len(given), sum(high - low for low, high in given) / len(given), len(found) - len(given)


def main(simulations: int = 2000) -> None:
    large = draw(np.random.default_rng(1), 1_000_000)
    print(f"{'interval':30} {'n':>5} {'coverage':>9} {'width':>7} {'none':>5} {'seconds':>8}")
    for case in CASES:
        for n in case.sizes:
            start = time.perf_counter()
            share, width, none = coverage(case, n, case.truth(large), simulations)
            print(
                f"{case.name:30} {n:5d} {'≥' if case.at_least else ' '}{share:8.1%} {width:7.3f} {none:5d} "
                f"{time.perf_counter() - start:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    main(parser.parse_args().simulations)

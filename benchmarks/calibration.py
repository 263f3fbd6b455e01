"""What a calibration promises, held against a simulated judge whose truth is known.

People prefer response a with log-odds q. The judge says `SHARP`·q plus noise of its own: it is too sure, and
it is wrong where the noise turns the sign. Labels are drawn, the judge is calibrated on them, and what it
promises is compared with 200,000 further labels.

    broken      draws of labels whose threshold keeps less than the target precision (promised: at most delta)
    abstains    draws in which no threshold passes
    kept        share of labels kept; best: by the threshold one would choose knowing everything
    ECE         expected calibration error on new labels before and after, and of perfect calibration
    expected    mean distance of expected and true precision of the labels kept
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from judges.calibration import Labelled, fit_map
from judges.intervals import Array
from judges.reliability import calibration_error, favoured, noise_floor
from judges.selective import select

SHARP, NOISE, SPREAD = 2.0, 2.0, 2.0
DRAWS, FURTHER = 1000, 200_000
DELTA = 0.1


def labels(n: int, random: np.random.Generator) -> tuple[Array, Array]:
    """(the judge's log-odds, people's label 1 or 0), shape (n,) each."""
    q = random.normal(0, SPREAD, n)
    return SHARP * q + random.normal(0, NOISE, n), (random.random(n) < 1 / (1 + np.exp(-q))).astype(
        np.float64
    )


@dataclass(frozen=True)
class Truth:
    """Precision of labels with |log-odds| above a threshold, over many that the judge is never shown."""

    margin: Array
    precision: Array

    @classmethod
    def of(cls, margin: Array, human: Array) -> Truth:
        order = np.argsort(-np.abs(margin))
        right = ((margin > 0) == (human == 1))[order]
        return cls(np.abs(margin)[order], np.cumsum(right) / np.arange(1, len(right) + 1))

    def above(self, margin: float) -> float:
        kept = int(np.searchsorted(-self.margin, -margin, "right"))
        return float(self.precision[max(0, kept - 1)])

    def best(self, target: float) -> float:
        """The largest share that can be kept at a precision."""
        good = np.flatnonzero(self.precision >= target)
        return float((good[-1] + 1) / len(self.precision)) if len(good) else 0.0


def draws(n: int, target: float, truth: Truth, count: int) -> Iterator[tuple[float, float, float]]:
    """(share kept, true precision, expected precision) of each draw of labels; NaN where it abstains."""
    flat = np.zeros((n, 4))
    names = [str(number) for number in range(n)]
    for seed in range(count):
        margin, human = labels(n, np.random.default_rng(seed))
        fitted = fit_map("temperature", Labelled(margin, flat, human, names))
        sure = fitted.agreement(np.abs(fitted.log_odds(margin, flat)))
        found = select(sure, (margin > 0) == (human == 1), target=target, delta=DELTA)
        if found is None:
            yield 0.0, np.nan, np.nan
            continue
        least = float(np.abs(margin)[sure >= found.threshold].min())
        above = truth.margin[truth.margin >= least]
        expected = fitted.agreement(above / fitted.temperature).mean()
        yield found.coverage, truth.above(least), float(expected)


def main() -> None:
    further = labels(FURTHER, np.random.default_rng(10**6))
    truth = Truth.of(*further)
    print(f"judge right on {truth.precision[-1]:.3f} of all labels; delta {DELTA}; {DRAWS} draws of labels")
    print("labels  target  broken  abstains   kept   best  expected")
    for n in (100, 200, 400, 1000):
        for target in (0.8, 0.85, 0.9):
            kept, true, expected = np.array(list(draws(n, target, truth, DRAWS))).T
            broken, abstains = (true < target).mean(), np.isnan(true).mean()
            off = np.nanmean(np.abs(expected - true))
            print(
                f"{n:6d}  {target:6.2f}  {broken:6.3f}  {abstains:8.3f}  {kept.mean():5.2f}  "
                f"{truth.best(target):5.2f}  {off:8.3f}"
            )
    print("labels  ECE before  after  perfect")
    part = slice(0, 2000)
    before = calibration_error(*favoured(further[0][part], further[1][part]))
    for n in (50, 100, 200, 400):
        errors, floors = [], []
        for seed in range(50):
            margin, human = labels(n, np.random.default_rng(seed))
            flat = np.zeros((n, 4))
            fitted = fit_map("temperature", Labelled(margin, flat, human, [str(i) for i in range(n)]))
            sure, agreed = favoured(further[0][part] / fitted.temperature, further[1][part])
            errors.append(calibration_error(sure, agreed))
            floors.append(noise_floor(sure, seed=seed) if seed < 5 else np.nan)
        print(f"{n:6d}  {before:10.3f}  {np.mean(errors):5.3f}  {np.nanmean(floors):7.3f}")


if __name__ == "__main__":
    main()

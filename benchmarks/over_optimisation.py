"""How soon the watcher's alarm sees a policy game its reward, and how often it cries wolf.

A policy draws answers x from N(m, 1) and is trained on a proxy reward, x with noise, by policy gradient with
groups of 8 (the advantage of GRPO). The divergence from its start is m²/2 nats, so d = √KL = m/√2. A held-out
judge sees the gold reward with noise. Where the proxy can be gamed, gold is d (α - β log d) (Gao et al. 2022,
arXiv 2210.10760): it first rises and then falls while the proxy goes on rising. Where it cannot, gold rises
to a plateau and stays there, which is the hardest case to leave alone. All numbers go through the monitor,
which raises the alarms as in any training.

    python benchmarks/over_optimisation.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefgen.messages import user
from trainers.monitor import Monitor
from trainers.rewards import Sample
from trainers.watching import Look, mean_known

Array = npt.NDArray[np.float64]
Gold = Callable[[Array], Array]

PEAK, HEIGHT = 2.0, 1.5
"""Where gold is best, as d (4 nats), and how good it is there; prompts differ by 1 (standard deviation)."""
EVALUATIONS, STEPS, GROUPS, GROUP = 10, 10, 16, 8
RATES = (0.12, 0.18)
"""Each run draws its learning rate from here, so that the peak falls anywhere between two evaluations."""
PROXY_NOISE = 0.3
WITHIN = 2


def gamed(d: Array) -> Array:
    """d (α - β log d) with its maximum HEIGHT at d = PEAK: there α / β = 1 + log PEAK and gold = β PEAK."""
    beta = HEIGHT / PEAK
    alpha = beta * (1 + np.log(PEAK))
    further = np.maximum(d, 1e-12)
    return np.where(d > 0, further * (alpha - beta * np.log(further)), alpha * d)


def honest(d: Array) -> Array:
    """Rises as fast at first, reaches HEIGHT at d = PEAK and stays there."""
    return HEIGHT * np.sin(np.pi / 2 * np.clip(d / PEAK, -1, 1))


@dataclass(frozen=True, slots=True)
class Run:
    """`gold`: the true mean at each evaluation; `alarm`: the evaluation that raised it, if one did."""

    gold: Sequence[float]
    alarm: int | None

    @property
    def peak(self) -> int:
        return int(np.argmax(self.gold))


def train(gold: Gold, prompts: int, noise: float, seed: int, folder: Path) -> Run:
    """One training, watched on `prompts` prompts by a judge with this standard deviation of noise."""
    random = np.random.default_rng(seed)
    monitor = Monitor(folder / f"{seed}.jsonl")
    # The watcher draws with the same random numbers at each look.
    draws, offsets = random.normal(0, 1, prompts), random.normal(0, 1, prompts)
    mean, truth, rate = 0.0, [], random.uniform(*RATES)
    for evaluation in range(EVALUATIONS + 1):
        if evaluation:
            mean = improve(mean, rate, random, monitor, STEPS * (evaluation - 1))
        seen = gold((mean + draws) / np.sqrt(2)) + offsets + random.normal(0, noise, prompts)
        monitor.evaluated(STEPS * evaluation, evaluation / EVALUATIONS, look(seen))
        truth.append(expected(gold, mean))
    found = [alarm.step // STEPS for alarm in monitor.alarms if alarm.name == "over_optimised"]
    return Run(truth, found[0] if found else None)


def improve(mean: float, rate: float, random: np.random.Generator, monitor: Monitor, before: int) -> float:
    """STEPS steps of policy gradient on the proxy; logs its reward as a trainer does."""
    for step in range(STEPS):
        answers = random.normal(mean, 1, (GROUPS, GROUP))
        rewards = answers + random.normal(0, PROXY_NOISE, answers.shape)
        advantages = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
        monitor.log(before + step + 1, {"reward": float(rewards.mean())})
        mean += rate * float((advantages * (answers - mean)).mean())
    return mean


def look(scores: Array) -> Look:
    values = {"held_out": tuple(scores.tolist())}
    samples = tuple(Sample(user(str(place)), "") for place in range(len(scores)))
    return Look({"held_out": mean_known(values["held_out"]) or 0.0}, values, samples)


def expected(gold: Gold, mean: float) -> float:
    """The mean of gold over N(mean, 1), by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float(weights @ gold((mean + nodes) / np.sqrt(2)) / weights.sum())


def in_time(run: Run) -> bool:
    return run.alarm is not None and run.peak < run.alarm <= run.peak + WITHIN


def too_early(run: Run) -> bool:
    return run.alarm is not None and run.alarm <= run.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="Trainings of each kind in a line.")
    runs = parser.parse_args().runs
    started = time.monotonic()
    print("prompts  judge's noise | gamed: in time  later  never  too early | not gamed: false alarms")
    for prompts, noise in (
        (16, 0.25),
        (64, 0.25),
        (64, 0.5),
        (128, 0.25),
        (128, 0.5),
        (256, 0.5),
        (256, 1.0),
    ):
        with tempfile.TemporaryDirectory() as folder:
            bad = [train(gamed, prompts, noise, seed, Path(folder)) for seed in range(runs)]
            good = [train(honest, prompts, noise, seed + runs, Path(folder)) for seed in range(runs)]
        hit, early = np.mean([in_time(run) for run in bad]), np.mean([too_early(run) for run in bad])
        never = np.mean([run.alarm is None for run in bad])
        false = np.mean([run.alarm is not None for run in good])
        print(
            f"{prompts:7} {noise:14} | {hit:14.1%} {1 - hit - early - never:6.1%} {never:6.1%} {early:10.1%} "
            f"| {false:12.1%}"
        )
    peaks = sorted({run.peak for run in bad})
    lost = np.median([1 - run.gold[min(run.peak + WITHIN, EVALUATIONS)] / max(run.gold) for run in bad])
    print(
        f"gold peaks at evaluation {peaks[0]} to {peaks[-1]} of {EVALUATIONS}; two evaluations later it has "
        f"lost {lost:.0%} (median); {runs} runs a line, {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()

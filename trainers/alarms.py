"""When a training goes wrong: what the numbers of its evaluations give away, in plain language."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from pydantic import BaseModel, ConfigDict

AlarmName = Literal[
    "over_optimised",
    "length",
    "chosen_falls",
    "reward_follows_length",
    "kl",
    "entropy",
    "repetition",
    "refusals",
]

LONGER = 1.25
"""Mean length over that of the start."""
CHOSEN_DROP = 0.1
"""Fall of the chosen responses' log-probability, as a share of where it began."""
CORRELATION = 0.5
"""Between reward and length, within pairs or groups of one prompt."""
ENTROPY_LEFT = 0.5
"""Share of the start's entropy."""
MORE_REPETITION = 0.2
"""Rise of the share of repeated runs of four words."""
MORE_REFUSALS = 0.2
"""Rise of the share of refusals."""

LEVEL = 0.05
"""Probability that noise alone passes one paired test."""
FALL_LEVEL = 0.01
"""The same for a falling held-out score, which is tested anew at each evaluation."""

PROXIES = (
    "reward",
    "train/reward",
    "objective/scores",
    "train/objective/scores",
    "rewards/margins",
    "train/rewards/margins",
)
"""What a training maximises, in the order in which it is looked for; without any, minus the loss."""


class Alarm(BaseModel):
    """`step`: the evaluation that raised it; `good_step`: the last evaluation before it went wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: AlarmName
    step: int
    good_step: int
    seen: str
    meaning: str
    remedy: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.seen}. {self.meaning} {self.remedy}"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation. `numbers`: of the held-out rows by TRL's names, `train/…` means of the training logs
    since the evaluation before, `watch/…` means over the watched prompts; `values`: for each watched
    prompt."""

    step: int
    numbers: Mapping[str, float]
    values: Mapping[str, Sequence[float | None]] = field(default_factory=dict)

    def proxy(self) -> float | None:
        """What the training maximises, higher is better."""
        found = next((self.numbers[name] for name in PROXIES if name in self.numbers), None)
        loss = self.numbers.get("loss", self.numbers.get("train/loss"))
        return found if found is not None or loss is None else -loss


@dataclass(frozen=True, slots=True)
class Text:
    meaning: str
    remedy: str


TEXTS: Mapping[AlarmName, Text] = {
    "over_optimised": Text(
        "What the training maximises went up while a judge it cannot see went down: the model games its "
        "reward (Gao et al. 2022, arXiv 2210.10760).",
        "Keep the checkpoint from before; go on with a higher --beta (or KL coefficient), a lower "
        "--learning-rate, or labels of a better judge or of several.",
    ),
    "length": Text(
        "Answers grow longer for the same prompts, as happens where length is rewarded in place of content.",
        "Look at the length difference of chosen and rejected (prefgen report RUN), make pairs anew with "
        "--max-length-gap, or use a length-normalised loss.",
    ),
    "chosen_falls": Text(
        "The model finds even the chosen responses less likely than before: it learns what not to say and "
        "moves probability to something nobody has seen (likelihood displacement, arXiv 2410.08847).",
        "Lower --learning-rate or raise --beta, add an SFT term on the chosen side, or drop pairs whose two "
        "sides are nearly the same (--max-similarity).",
    ),
    "reward_follows_length": Text(
        "The reward can be told from the length alone to a large part: a policy trained on it will write "
        "more.",
        "Balance the lengths of the pairs (--max-length-gap) or take length out of the labels (prefgen "
        "calibrate --map debiased).",
    ),
    "kl": Text(
        "The model is further from its start than was asked for.",
        "Stop here, or go on with a higher --beta (or KL coefficient) or a lower --learning-rate.",
    ),
    "entropy": Text(
        "The model grew far surer of its next word: its answers become alike, and an online stage has less "
        "and less to compare.",
        "Lower --learning-rate or raise --beta (or KL coefficient), train fewer epochs, or use more "
        "different prompts.",
    ),
    "repetition": Text(
        "Answers repeat themselves, a sign of a broken model or of a reward for sheer amount.",
        "Keep an earlier checkpoint; lower --learning-rate, and check that the training rows end with the "
        "end token.",
    ),
    "refusals": Text(
        "The model declines prompts it used to answer.",
        "Look at what was chosen for these prompts; add pairs in which a helpful answer wins.",
    ),
}


def find_alarms(history: Sequence[Evaluation], kl_target: float | None = None) -> list[Alarm]:
    """All alarms of a training, each kind once, at the first evaluation that raises it.

    `history`: evaluations in the order of their steps, the first one before training. Where a rule compares
    answers to the same prompts, the change must be larger than noise as well: the one-sided t-interval of the
    paired differences must leave out 0, so few prompts or noisy scores make alarms late, not wrong.
    """
    found: dict[AlarmName, Alarm] = {}
    for place in range(1, len(history)):
        for name, rule in _RULES.items():
            told = None if name in found else rule(history[: place + 1], kl_target)
            if told is not None:
                seen, good = told
                text = TEXTS[name]
                found[name] = Alarm(
                    name=name, step=history[place].step, good_step=history[place - good].step, seen=seen,
                    meaning=text.meaning, remedy=text.remedy,
                )  # fmt: skip
    return list(found.values())


Told = tuple[str, int] | None
"""What was seen, and how many evaluations ago all was well."""


def _over_optimised(history: Sequence[Evaluation], _: float | None) -> Told:
    """The held-out score lost more than noise over two evaluations and still falls, and the proxy rises."""
    if len(history) < 3:
        return None
    scores = [item.values.get("held_out", ()) for item in history[-3:]]
    known = [
        (a, b, c)
        for a, b, c in zip(*scores, strict=False)
        if a is not None and b is not None and c is not None
    ]
    proxy_before, proxy = history[-3].proxy(), history[-1].proxy()
    if len(known) < 2 or proxy_before is None or proxy is None or proxy <= proxy_before:
        return None
    first, second, third = (fmean(column) for column in zip(*known, strict=True))
    fall = lower_bound([before - now for before, _, now in known], FALL_LEVEL)
    if not (second > third and fall > 0):
        return None
    return (
        f"over two evaluations the held-out judge's score fell from {first:.3g} to {third:.3g} on "
        f"{len(known)} prompts, while what is trained on rose from {proxy_before:.3g} to {proxy:.3g}"
    ), 1 if second >= first else 2


def _length(history: Sequence[Evaluation], _: float | None) -> Told:
    start, now = _known(history, "length")
    if not start or fmean(now) <= LONGER * fmean(start) or not _above_noise(now, start):
        return None
    return f"answers have {fmean(now):.0f} tokens, at the start {fmean(start):.0f} for the same prompts", 1


def _chosen_falls(history: Sequence[Evaluation], _: float | None) -> Told:
    """Two evaluations in a row below the margin, the second the lower one."""
    told = [item.numbers.get("logps/chosen") for item in (history[0], *history[-2:])]
    if len(history) < 3 or None in told:
        return None
    start, before, now = (value for value in told if value is not None)
    margin = CHOSEN_DROP * abs(start)
    if not now < before < start - margin:
        return None
    return (
        f"the chosen responses' log-probability fell from {start:.4g} to {before:.4g} and {now:.4g} nats",
        2,
    )


def _reward_follows_length(history: Sequence[Evaluation], _: float | None) -> Told:
    now = history[-1]
    leads = _both(now.values.get("reward_lead", ()), now.values.get("length_lead", ()))
    names = (
        "watch/reward_length_correlation",
        "reward_length_correlation",
        "train/reward_length_correlation",
    )
    found = next((now.numbers[name] for name in names if name in now.numbers), None)
    if found is None or found <= CORRELATION or (leads[0] and correlation_bound(found, len(leads[0])) <= 0):
        return None
    return f"reward and length are correlated by {found:.2f}", 1


def _kl(history: Sequence[Evaluation], target: float | None) -> Told:
    numbers = history[-1].numbers
    kl = numbers.get("watch/kl", numbers.get("watch/kl_start"))
    if kl is None or target is None or kl <= target:
        return None
    return f"the divergence from the start is {kl:.3g} nats an answer, the target {target:.3g}", 1


def _entropy(history: Sequence[Evaluation], _: float | None) -> Told:
    start, now = _known(history, "entropy")
    if not start or fmean(now) >= ENTROPY_LEFT * fmean(start) or not _above_noise(start, now):
        return None
    return f"entropy is {fmean(now):.3g} nats a token, at the start {fmean(start):.3g}", 1


def _risen(name: str, by: float, what: str) -> Callable[[Sequence[Evaluation], float | None], Told]:
    def rule(history: Sequence[Evaluation], _: float | None) -> Told:
        start, now = _known(history, name)
        if not start or fmean(now) - fmean(start) <= by or not _above_noise(now, start):
            return None
        return f"{what} {fmean(now):.0%}, at the start {fmean(start):.0%}", 1

    return rule


_RULES: Mapping[AlarmName, Callable[[Sequence[Evaluation], float | None], Told]] = {
    "over_optimised": _over_optimised,
    "length": _length,
    "chosen_falls": _chosen_falls,
    "reward_follows_length": _reward_follows_length,
    "kl": _kl,
    "entropy": _entropy,
    "repetition": _risen("repetition", MORE_REPETITION, "the share of repeated runs of four words is"),
    "refusals": _risen("refusal", MORE_REFUSALS, "the share of refusals is"),
}


# ------------------------------------------------------------------------------------------------- arithmetic


def _known(history: Sequence[Evaluation], name: str) -> tuple[list[float], list[float]]:
    """Values of the same prompts at the start and now; none where they were not watched at both."""
    return _both(history[0].values.get(name, ()), history[-1].values.get(name, ()))


def _both(left: Sequence[float | None], right: Sequence[float | None]) -> tuple[list[float], list[float]]:
    pairs = [(a, b) for a, b in zip(left, right, strict=False) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _above_noise(high: Sequence[float], low: Sequence[float]) -> bool:
    return lower_bound([a - b for a, b in zip(high, low, strict=True)], LEVEL) > 0


def lower_bound(differences: Sequence[float], level: float) -> float:
    """Lower end of the one-sided t-interval of a mean: mean - t(1 - level, n - 1) · s / √n; -inf for n <
    2."""
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        return -math.inf
    return fmean(differences) - float(t.ppf(1 - level, n - 1)) * stdev(differences) / math.sqrt(n)


def correlation_bound(correlation: float, n: int) -> float:
    """Lower end of its one-sided 95% interval by Fisher's z: tanh(atanh r - 1.645 / √(n - 3)); -1 for n <
    4."""
    if n < 4:
        return -1.0
    # At r = 1 there is no z.
    return math.tanh(math.atanh(min(correlation, 1 - 1e-9)) - 1.645 / math.sqrt(n - 3))

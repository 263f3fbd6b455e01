"""What the rounds so far come to: which is the best, and whether to go on. No model, no file.

Preferences are probabilities that a round's answer beats round 0's, one a held-out prompt; round 0 against
itself is 0.5 everywhere. Rates are in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from judges.intervals import Array, Estimate, bootstrap, weighted_mean

RESAMPLES = 10_000
Kind = Literal["gaming", "length", "no_gain"]
Keep = Literal["lower", "mean"]


@dataclass(frozen=True, slots=True)
class Rules:
    """None switches a rule off. See `pipelines.rlaif.config.StopRules`."""

    gaming_rounds: int | None = 2
    length_ratio: float | None = 1.25
    no_gain_rounds: int | None = 2


@dataclass(frozen=True, slots=True)
class Round:
    """What the held-out prompts say of one round.

    `held_out`, `training`: preferences over round 0 by either judge, shape (prompts,), NaN where one failed;
    `win_rate`, `over_last`: the held-out judge's win rate over round 0 and over the round before;
    `length_ratio`: mean length of the answers over that of round 0's.
    """

    number: int
    held_out: Array
    training: Array
    win_rate: Estimate
    over_last: Estimate
    length_ratio: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """`text`: what was seen; `remedy`: what to do about it."""

    kind: Kind
    round: int
    text: str
    remedy: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """After a round. `best`: the number of the best round so far, 0 being the start."""

    best: int
    alarms: tuple[Alarm, ...]


def decide(rounds: Sequence[Round], rules: Rules, keep: Keep) -> Decision:
    """On the last of `rounds` (1, 2, 3 …)."""
    history = [rounds[: count + 1] for count in range(len(rounds))]
    # An answer that wins because it is long, or because the judge is gamed, is not a better one.
    spoilt = {
        r[-1].number for r in history if gaming(r, rules.gaming_rounds) or length(r, rules.length_ratio)
    }
    best = best_round([item for item in rounds if item.number not in spoilt], keep)
    found = (
        gaming(rounds, rules.gaming_rounds),
        length(rounds, rules.length_ratio),
        no_gain(rounds, rules.no_gain_rounds),
    )
    return Decision(best, tuple(alarm for alarm in found if alarm is not None))


def best_round(rounds: Sequence[Round], keep: Keep) -> int:
    """The number of the round with the highest win rate over round 0; round 0 has 50%, and of equals the
    earlier one is kept."""
    best, value = 0, 50.0
    for item in rounds:
        told = item.win_rate.ci[0] if keep == "lower" else item.win_rate.value
        if told > value:
            best, value = item.number, told
    return best


def gaming(rounds: Sequence[Round], window: int | None) -> Alarm | None:
    """In each of the last `window` rounds the training judge's win rate over round 0 rises and the held-out
    judge's falls, and the latter's fall over all of them, prompt by prompt, is beyond its 95% interval."""
    if window is None or len(rounds) < window:
        return None
    start = np.full(len(rounds[-1].held_out), 0.5)
    held_out = [start, *(item.held_out for item in rounds)][-window - 1 :]
    training = [start, *(item.training for item in rounds)][-window - 1 :]
    steps = range(1, window + 1)
    rising = all(change(training[step - 1], training[step]) > 0 for step in steps)
    falling = all(change(held_out[step - 1], held_out[step]) < 0 for step in steps)
    fall = paired(held_out[0], held_out[-1])
    if not (rising and falling and fall is not None and fall.ci[1] < 0):
        return None
    last = rounds[-1].number
    return Alarm(
        "gaming",
        last,
        f"over {window} rounds the training judge liked the model better each time "
        f"({_rate(training[0])} → {_rate(training[-1])} over round 0), and the held-out judge less "
        f"({_rate(held_out[0])} → {_rate(held_out[-1])}, {fall.value:+.1f} points "
        f"[{fall.ci[0]:+.1f}, {fall.ci[1]:+.1f}] on the same prompts): the model learns what the training "
        "judge cannot tell from good",
        "use the best model; read pairs of the last rounds for what the chosen sides share, then name it in "
        "the constitution, use a stronger judge, or train less far (higher beta)",
    )


def length(rounds: Sequence[Round], limit: float | None) -> Alarm | None:
    """The last round's answers are longer than `limit` times round 0's."""
    last = rounds[-1]
    if limit is None or last.length_ratio <= limit:
        return None
    return Alarm(
        "length",
        last.number,
        f"the answers are {100 * (last.length_ratio - 1):.0f}% longer than at the start, and "
        f"{100 * (limit - 1):.0f}% is allowed: judges like long answers, so this is what gaming one looks "
        "like first",
        "set generate.max_length_gap to drop pairs of unequal length, calibrate the judge, or, where long "
        "answers are what you want, raise stop.length_ratio",
    )


def no_gain(rounds: Sequence[Round], window: int | None) -> Alarm | None:
    """In none of the last `window` rounds the win rate over the round before is above 50% by its interval."""
    if window is None or len(rounds) < window or any(r.over_last.ci[0] > 50 for r in rounds[-window:]):
        return None
    told = ", ".join(
        f"round {item.number}: {item.over_last.value:.0f}% [{item.over_last.ci[0]:.0f}, "
        f"{item.over_last.ci[1]:.0f}]"
        for item in rounds[-window:]
    )
    return Alarm(
        "no_gain",
        rounds[-1].number,
        f"{window} rounds without a gain over the round before that is beyond chance ({told})",
        "stop here; for more, use new prompts, more candidates (generate.n), or more held-out prompts, which "
        "show smaller gains",
    )


def change(before: Array, after: Array) -> float:
    """Mean difference in points over the prompts both have; 0 where there are none."""
    found = paired(before, after, resamples=1)
    return 0.0 if found is None else found.value


def paired(before: Array, after: Array, resamples: int = RESAMPLES) -> Estimate | None:
    """Mean difference of two preferences on the same prompts, in points, with its 95% interval."""
    difference = 100 * (after - before)
    usable = difference[~np.isnan(difference)]
    return bootstrap(weighted_mean(usable), range(len(usable)), resamples=resamples)


def _rate(preferences: Array) -> str:
    return f"{100 * float(np.nanmean(preferences)):.0f}%"

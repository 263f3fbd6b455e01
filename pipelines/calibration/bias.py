"""What moves a judge besides quality, as a section of the page of a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.calibration.words import (
    FEWEST_FOR_INTERVAL,
    STYLE,
    Found,
    interval_of,
    p_value,
    points,
    value_of,
    within,
)
from pipelines.curves import interval
from pipelines.markup import beside, facts, how, many, percent, signed, table, text
from prefgen.judgment import sigmoid


def bias(found: Found) -> str:
    return beside(f"<div>{_position(found)}</div>", f"<div>{_likings(found)}</div>")


def _position(found: Found) -> str:
    where, again, own = found["position"], found["repeats"], found["self_preference"]
    n, rate, lean = where["n_both_orders"], where["first_slot_rate"], where["bias_log_odds"]
    told = {}
    said = (
        "No pair was asked in both orders, so a liking for a position cannot be told from a liking for "
        "what stood there."
    )
    if n:
        told["pairs asked in both orders"] = f"{n:,}"
        told["same verdict in both orders"] = percent(where["consistency"])
        told["always the first, always the second"] = f"{where['first_only']:,}, {where['second_only']:,}"
        said = (
            "A judge without a liking for a position gives half of its verdicts to the response shown first."
        )
    if rate is not None:
        told["verdicts for the response shown first"] = f"{percent(rate)} ({within(where['first_slot_ci'])})"
        told["exact test against one half"] = text(p_value(where))
    if lean is not None:
        told["lean to the first, log-odds"] = f"{signed(lean)} ({within(where['bias_log_odds_ci'], signed)})"
        told["a toss-up would go to the first"] = percent(sigmoid(lean))
    if again is not None:
        told["same answer when asked again"] = f"{value_of(again['agreement'])} of {again['n_questions']:,}"
    if own is not None:
        told["agrees where people prefer its family"] = f"{percent(own['own'])} of {own['n_own']:,}"
        told["agrees where they prefer another"] = f"{percent(own['other'])} of {own['n_other']:,}"
    return f"<h3>Position, chance, family</h3>{facts(told)}{how(said)}"


def _likings(found: Found) -> str:
    length = found["length"]
    told: dict[str, tuple[int, float, float, Mapping[str, Any]]] = {}
    if length["n"]:
        rates = length["judge_prefers_longer"], length["human_prefers_longer"]
        told["length"] = (length["n"], *rates, length["difference"])
    for name, liking in found["style"].items():
        rates = liking["judge_prefers_more"], liking["human_prefers_more"]
        told[name] = (liking["n"], *rates, liking["difference"])
    if not told:
        return how("Where both decide, the two responses never differ in length or formatting.")
    shown = (difference for n, *_, difference in told.values() if n >= FEWEST_FOR_INTERVAL)
    widest = max((abs(end) for difference in shown for end in difference["ci"]), default=0.0) or 1.0
    rows = [
        [
            f"{STYLE[name]}<small>{many(n, 'pair')}</small>",
            percent(judge),
            percent(human),
            _difference(difference, n, widest),
        ]
        for name, (n, judge, human, difference) in told.items()
    ]
    said = how(
        "How often each prefers the response with more of it, and by how many points the judge does so more "
        f"often, with a 95% interval (from {FEWEST_FOR_INTERVAL} pairs on). What people like too is no bias."
    )
    return table("Length and formatting", ("prefers", "judge", "people", "difference"), rows) + said


def _difference(difference: Found, n: int, widest: float) -> str:
    value = points(difference["value"])
    if n < FEWEST_FOR_INTERVAL:
        return value
    drawn = interval(difference["value"], difference["ci"], widest)
    return f"{value}<small>{interval_of(difference, n, points)}</small>{drawn}"

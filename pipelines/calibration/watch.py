"""What should worry the user of a judge, as far as the intervals of its calibration support it."""

from __future__ import annotations

from collections.abc import Iterator

from judges.intervals import clopper_pearson
from judges.items import FEWEST_PROMPTS
from pipelines.calibration.words import FEWEST_FOR_INTERVAL, STYLE, Found, p_value, points, within
from pipelines.markup import many, number, percent

_CONSISTENT = 0.8
"""Strong judges give the same verdict in both orders more often than this."""
_SIGNIFICANT = 0.05
_PARADOX_REPEATS, _PARADOX_SHIFT = 0.95, 0.1


def watch(found: Found) -> list[str]:
    """One sentence a worry."""
    about = (_prompts, _failures, _positions, _likings, _self_preference, _map, _labels)
    return [worry for worries in about for worry in worries(found)]


def _prompts(found: Found) -> Iterator[str]:
    if (n := found["n_prompts"]) < FEWEST_PROMPTS:
        yield (
            f"The labels are of {many(n, 'prompt')} only: what is found holds for these, and no precision is "
            f"promised for others. Label pairs of {FEWEST_PROMPTS} prompts at the very least."
        )


def _failures(found: Found) -> Iterator[str]:
    if failed := found["n_failed"]:
        how = "they count as ties in the agreement" if found["n"] == found["n_items"] else "they are left out"
        yield f"On {failed:,} of {many(found['n_items'], 'pair')} it gave no usable verdict; {how}."


def _positions(found: Found) -> Iterator[str]:
    where, again = found["position"], found["repeats"]
    n, rate = where["n_both_orders"], where["first_slot_rate"]
    if not n:
        return
    if rate is not None and where["p_value"] < _SIGNIFICANT:
        yield (
            f"{percent(rate)} of its decided verdicts go to the response shown first ({p_value(where)}): "
            "ask in both orders, always."
        )
    if clopper_pearson(round(where["consistency"] * n), n)[1] < _CONSISTENT:
        yield f"Only {percent(where['consistency'])} of the pairs get the same verdict in both orders."
    steady = again is not None and again["agreement"]["value"] > _PARADOX_REPEATS
    if rate is not None and steady and abs(rate - 0.5) > _PARADOX_SHIFT:
        yield (
            f"It repeats itself ({percent(again['agreement']['value'])} of answers are the same when asked "
            "again) and leans to a position: steady, and steadily wrong."
        )


def _likings(found: Found) -> Iterator[str]:
    for name, told in {"length": found["length"], **found["style"]}.items():
        if told["n"] < FEWEST_FOR_INTERVAL:
            continue
        value, (low, high) = told["difference"]["value"], told["difference"]["ci"]
        if low > 0 or high < 0:
            how = "more" if low > 0 else "less"
            yield (
                f"It prefers {STYLE[name]} {how} often than people do, by {number(abs(100 * value), 1)} "
                f"points ({within(told['difference']['ci'], points)})."
            )


def _self_preference(found: Found) -> Iterator[str]:
    told = found["self_preference"]
    if not told or min(told["n_own"], told["n_other"]) < FEWEST_FOR_INTERVAL:
        return
    if told["difference"]["ci"][0] > 0:
        yield (
            f"It agrees with people {number(100 * told['difference']['value'], 1)} points more often where "
            f"they prefer a response of its own family ({within(told['difference']['ci'], points)})."
        )


def _map(found: Found) -> Iterator[str]:
    told = found["probability"]
    debiased = told and told["maps"].get("debiased")
    if debiased and debiased["gain"] > 2 * debiased["gain_standard_error"]:
        used = "the calibration does so" if told["map"]["kind"] == "debiased" else "another map is used here"
        yield f"Its opinion without length and formatting predicts people better; {used}."


def _labels(found: Found) -> Iterator[str]:
    plan = found["planner"]
    if plan["more_for_width"]:
        yield (
            f"{many(found['n'], 'label')} are few: an interval of agreement {number(100 * plan['width'])} "
            f"points wide needs about {plan['labels_for_width']:,}."
        )

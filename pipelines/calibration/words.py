"""What a calibration says, in words. `found` is what becomes calibration.json; nothing is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import tanh
from typing import Any

from judges.selective import FEWEST
from pipelines.markup import exactly, many, number, percent, signed

Found = Mapping[str, Any]

FEWEST_FOR_INTERVAL = 20
"""Under so few pairs a bootstrap interval is too narrow to be shown or relied on."""
STYLE = {
    "length": "the longer response",
    "lists": "more list items",
    "headers": "more headers",
    "bold": "more bold text",
    "code": "more code blocks",
}


def headline(found: Found) -> str:
    """What part of this judge's labels may be kept."""
    items, kept = found["selective_items"], found["selective"]
    if kept is not None:
        return f"Keeps {percent(kept['coverage'])} of labels at {exactly(kept['target'])} precision"
    if found["cascade"] is not None:
        return "Abstains: no judge of the cascade earns the precision"
    if items is None:
        return "Cannot tell: too few labels decide between a and b"
    target, n = exactly(items["target"]), len(items["confidence"])
    if n < FEWEST:
        return f"Abstains: {many(n, 'label')} cannot earn {target} precision"
    return f"Abstains: no threshold earns {target} precision"


def judge_name(found: Found) -> str:
    models = [model for _, model in asked(found["judge"])] or found["judge"].get("names")
    return ", ".join(models) if models else "The judge"


def asked(judge: Found) -> list[tuple[str, str]]:
    """(option, MODEL) of every model that was asked; none where verdicts were read from a file."""
    scorer = judge.get("reward_model")
    judges = [("--judge", model) for model in judge.get("judge", ())]
    return [("--reward-model", scorer), *judges] if scorer else judges


def within(ends: Sequence[float], show: Callable[[float], str] = percent) -> str:
    """An interval that no line break divides."""
    return f"{show(ends[0])}\u00a0to\u00a0{show(ends[1])}"


def value_of(estimate: Found | None, show: Callable[[float], str] = percent) -> str:
    return "–" if estimate is None else show(estimate["value"])


def interval_of(estimate: Found | None, n: int, show: Callable[[float], str] = percent) -> str:
    """A dash where `n` is too few for an interval."""
    return "–" if estimate is None or n < FEWEST_FOR_INTERVAL else within(estimate["ci"], show)


def places(value: float) -> str:
    """With two decimals."""
    return number(value, 2)


def points(share: float) -> str:
    """A difference of shares, in percentage points."""
    return signed(100 * share, 1)


def ceiling(found: Found) -> str:
    """The judge beside the people who made the labels."""
    people = found["annotators"]
    judge, among, ends = people["judge_agreement"], people["human_agreement"], people["human_agreement_ci"]
    if judge is None:
        return "No pair has labels of two people, so how often people agree with each other is not known."
    low, high = judge["ci"]
    how = "as often, as far as the intervals tell"
    if high < ends[0]:
        how = "more often"
    elif low > ends[1]:
        how = "less often"
    return (
        f"Held against one annotator at a time it agrees in {percent(judge['value'])} of cases "
        f"({within(judge['ci'])}); annotators agree among themselves {how}: "
        f"{percent(among)} ({within(ends)})."
    )


def p_value(told: Found) -> str:
    p = told["p_value"]
    return "p < 0.001" if p < 0.001 else f"p = {number(p, 3)}"


def alternative(people: Found) -> str:
    """The alternative-annotator test of `annotators`, or why there is none."""
    told = people["alternative_annotator"]
    if told is None:
        names = people.get("n_named", people["n"])  # Older calibrations do not hold it.
        why = (
            "at least 30 pairs of each that others labelled too"
            if names > 2
            else f"three named annotators; the labels name {names or 'none'}"
        )
        return f"The alternative-annotator test (may the judge stand in for a person?) needs {why}."
    n = len(told["advantages"])
    return (
        f"{'Passed' if told['passed'] else 'Failed'}: the judge may stand in for "
        f"{round(told['winning_rate'] * n)} of {many(n, 'annotator')} (half are enough) by the "
        f"alternative-annotator test at ε = {told['epsilon']:g}. It is at least as close to the others as "
        f"the annotator it replaces on {percent(told['average_advantage'])} of pairs, on average."
    )


def honesty(told: Found) -> str:
    """What the map does, and what the calibration error means."""
    t = told["temperature"]
    divided = f"Its log-odds are divided by {places(t)}"
    if told["ece_raw"] is None:
        divided += " (a verdict without a probability counts as ±1)"
    elif told["map"]["kind"] == "temperature":
        divided += f", because it was {'too sure' if t > 1 else 'not sure enough'}"
    does = {
        "temperature": f"{divided}.",
        "debiased": f"{divided}, and what is owed to length and formatting is taken out.",
        "isotonic": "Its log-odds are bent to the labels by steps that keep their order.",
    }[told["map"]["kind"]]
    error, floor = told["ece_calibrated"], told["ece_noise_floor"]
    if error is None:
        return does
    meaning = "no more than" if error <= floor else "more than"
    return (
        f"{does} The calibration error on labels the map did not see is {number(error, 3)}, {meaning} the "
        f"{number(floor, 3)} that a perfectly honest judge would measure on as many."
    )


def corrections(told: Found) -> dict[str, str]:
    """What a debiased map adds, in log-odds, for one standard deviation more of a feature."""
    named = STYLE | {"length": "more characters"}
    return {
        f"{number(sd, 0 if name == 'length' else 1)} {named[name]}": signed(weight * tanh(1))
        for name, (weight, sd) in told["map"]["style"].items()
    }


def plan(found: Found) -> list[str]:
    """How many labels more, and where they are."""
    told, items = found["planner"], found["selective_items"]
    more = many(told["more_for_width"], "more label") if told["more_for_width"] else "no more labels"
    said = [
        f"For an interval of agreement {number(100 * told['width'])} points wide: {more} "
        f"({told['labels_for_width']:,} in all)."
    ]
    if items is not None:
        said.append(f"For {exactly(items['target'])} precision: {for_target(found)}")
    if drawn := told.get("next"):
        said.append(
            f"{drawn['file']} holds {many(drawn['n'], 'pair')} to label next, drawn from {drawn['of']:,} so "
            "that estimates from them stay unbiased."
        )
    else:
        said.append("Run again with --unlabelled FILE to have the pairs drawn that are worth labelling next.")
    return said


def for_target(found: Found) -> str:
    if found["selective"] is not None:
        return "earned already; more labels may let more of the judge’s labels be kept."
    told = found["planner"]
    return more_to_earn(told["labels_for_target"], told["more_for_target"])


def more_to_earn(in_all: int | None, more: int | None) -> str:
    """What more labels would do where nothing earns the target."""
    if in_all is None or more is None:
        return "more labels alone will not earn it; no part of this judge’s verdicts is right that often."
    if more == 0:
        return "about as many labels as here would do as often as not; more of them make it likely."
    return f"about {many(more, 'more label')} of other prompts, if it goes on being right as often as here."

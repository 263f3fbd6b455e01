"""Charts of a calibration: are the judge's probabilities honest, and how much may be kept?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path

from judges.intervals import clopper_pearson, clopper_pearson_upper
from judges.selective import FEWEST, FIRST_SHARE
from pipelines.calibration.words import Found, corrections, honesty
from pipelines.curves import Axes, below
from pipelines.markup import beside, exactly, facts, figure, how, many, number, percent, signed, table, text
from pipelines.signature import options

_MOST_POINTS = 200
_FEW_POINTS = 12
_UNDECIDED = "Too few labels decide between a and b to hold a probability against."

_BY_JUDGE = "Every judge of a cascade has a map of its own; calibrate one alone to see its probabilities."


def probability(found: Found) -> str:
    told = found["probability"]
    if told is None:
        return how(_UNDECIDED if found["cascade"] is None else _BY_JUDGE)
    values = {
        "calibration error (ECE), before": told["ece_raw"],
        "after, on labels not seen": told["ece_calibrated"],
        "what chance alone would show": told["ece_noise_floor"],
        "Brier score, before": told["brier_raw"],
        "after": told["brier_calibrated"],
        "temperature": told["temperature"],
        "tells its right from its wrong verdicts (AUROC)": told["auroc"],
    }
    shown = facts({name: "–" if value is None else number(value, 3) for name, value in values.items()})
    added = corrections(told)
    style = f"<h3>Log-odds for style</h3>{facts(added)}" if added else ""
    right = f"<div>{shown}{how(honesty(told))}{style}</div>"
    return beside(_diagram(told), right) + _maps(told)


def _diagram(told: Found) -> str:
    after, before = told["reliability"] or [], told["reliability_raw"] or []
    bins = [*after, *before]
    if not bins:
        return ""
    low = below([item["agreed"] for item in bins], 0.5)
    axes = Axes("Reliability", "confidence", "people agree", 0.5, low)
    parts = [axes.diagonal()]
    for item in after:
        ends = clopper_pearson(round(item["n"] * item["agreed"]), item["n"])
        parts.append(axes.whisker(item["confidence"], ends))
    for series, several in ((1, before), (0, after)):
        parts += [axes.dot((item["confidence"], item["agreed"]), _tip(item), series) for item in several]
    described = f"How often people agree, by confidence: {'; '.join(map(_tip, after))}"
    about = (
        "A dot is a tenth of the labels, with a 95% interval. On the line, a judge that is 80% sure is "
        "right in 80% of cases; under the line it is too sure."
    )
    names = ("calibrated", "as stated") if before else ()
    return figure("Confidence and truth", axes.drawn(described, *parts), about, names)


def _tip(item: Found) -> str:
    return f"{many(item['n'], 'label')}, {percent(item['confidence'])} sure, {percent(item['agreed'])} agreed"


def _maps(told: Found) -> str:
    used = told["map"]["kind"]
    rows = [
        [
            text(f"{kind}{', used' if kind == used else ''}"),
            number(trial["log_loss"], 3),
            percent(trial["accuracy"]),
            "–"
            if kind == "temperature"
            else f"{signed(trial['gain'], 3)} ± {number(trial['gain_standard_error'], 3)}",
        ]
        for kind, trial in told["maps"].items()
    ]
    said = how(
        "Each map was tried on labels that it was not fitted on. The temperature is used unless another is "
        "better in log loss by more than two standard errors."
    )
    head = ("from log-odds to probability", "log loss", "right", "gain ± standard error")
    return table("Maps tried", head, rows) + said


def kept(found: Found, calibration: Path) -> str:
    """`calibration`: where calibration.json will be."""
    items, stages, chosen = found["selective_items"], found["cascade"], found["selective"]
    if items is None and stages is None:
        return how(_UNDECIDED)
    shown = _curve(items, chosen) if stages is None else f"<div>{_stages(stages['stages'])}</div>"
    return beside(shown, f"<div>{_consequence(found, calibration)}</div>")


def _stages(stages: Sequence[Found]) -> str:
    rows = []
    for stage in stages:
        chosen = stage["selective"]
        keeps = ("–", "–") if chosen is None else (f"{chosen['n_kept']:,}", number(chosen["threshold"], 3))
        rows.append([text(stage["judge"]), f"{stage['n_reached']:,}", percent(stage["agreement"]), *keeps])
    said = how(
        "Each judge decides the pairs it is sure enough of and leaves the others to the next. It agrees with "
        "people on this share of all pairs, reached or not."
    )
    return table("From judge to judge", ("judge", "reached", "agrees", "keeps", "sure from"), rows) + said


def _curve(items: Found, chosen: Found | None) -> str:
    n, target, delta = len(items["confidence"]), items["target"], items["delta"]
    ends = list(_ends(items["confidence"], items["correct"]))
    if not ends:
        return how(f"No curve: no threshold is tested on fewer than {FEWEST} labels.")
    measured = [(count / n, 1 - wrong / count) for count, wrong in ends]
    certain = [(count / n, 1 - clopper_pearson_upper(wrong, count, delta)) for count, wrong in ends]
    left, low = below([measured[0][0]], 0.8), below([y for _, y in certain], target - 0.05)
    axes = Axes("Precision of what is kept", "share of labels kept", "right, of those kept", left, low)
    parts = [axes.line(certain, 1), axes.line(measured)]
    if len(ends) <= _FEW_POINTS:
        parts += [axes.dot(point, percent(point[1]), 1) for point in certain]
        parts += [axes.dot(point, percent(point[1])) for point in measured]
    parts.append(axes.across(target, f"dashed: target {exactly(target)}"))
    if chosen is not None:
        parts.append(axes.up(chosen["coverage"], f"kept {percent(chosen['coverage'])}"))
    (first, at_first), (_, at_last) = measured[0], measured[-1]
    described = (
        f"With the surest {percent(first)} of {n:,} labels kept {percent(at_first)} are right, with all of "
        f"them {percent(at_last)}"
    )
    about = (
        "From left to right the less sure labels are kept too. The target is earned as far as the lower line "
        "stays above it: the test goes from the left and stops at the first failure."
    )
    names = ("measured", f"at least, with {exactly(1 - delta)} certainty")
    return figure("Precision and coverage", axes.drawn(described, *parts), about, names)


def _ends(confidence: Sequence[float], correct: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """(kept, wrong) of the thresholds that are tested, about 200 of them: labels of one confidence are kept
    together or not at all."""
    ranked = sorted(zip(confidence, correct, strict=True), key=lambda item: -item[0])
    first, step = max(FEWEST, ceil(FIRST_SHARE * len(ranked))), ceil(len(ranked) / _MOST_POINTS)
    last, wrong = 0, 0
    for count, (sure, right) in enumerate(ranked, 1):
        wrong += not right
        final = count == len(ranked)
        if count >= first and (final or (ranked[count][0] != sure and count >= last + step)):
            yield count, wrong
            last = count


def _consequence(found: Found, calibration: Path) -> str:
    chosen, judge = found["selective"], found["judge"]
    asked_for = found["selective_items"] or found["cascade"]
    target = f"{asked_for['target']:g}" if asked_for else "TARGET"
    by = "--judge MODEL" if "names" in judge else " ".join(options(judge))
    command = (
        f"prefgen generate PROMPTS --policy MODEL {by} "
        f"--calibration {shlex.quote(str(calibration))} --target-precision {target} --out RUN"
    )
    does = "Refuses: with these labels no threshold earns the target." if chosen is None else _keeps(chosen)
    ties = how("A pair that people call a tie counts as wrong, whatever the judge says of it.")
    return f'<p class="code"><code>{text(command)}</code></p><p>{text(does)}</p>{ties}'


def _keeps(chosen: Found) -> str:
    kept, wrong, sure = chosen["n_kept"], chosen["n_errors"], chosen["threshold"]
    which, least = "that one of the judges is sure enough of", chosen["target"]
    if sure is not None:  # One judge: more is known than that the target holds.
        which, least = (
            f"with a calibrated confidence of at least {number(sure, 3)}",
            1 - chosen["upper_bound"],
        )
    return (
        f"Keeps the pairs {which}. Of the labels here these are {kept:,} ({percent(chosen['coverage'])}), "
        f"{wrong:,} of them wrong: {percent(1 - wrong / kept)} are right, and at least {percent(least)} with "
        f"{exactly(1 - chosen['delta'])} certainty."
    )

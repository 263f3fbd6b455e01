"""What the tables of a run say of its pairs and responses, as charts and tables of its report."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.calibration.labelling import pairing_from
from pipelines.charts import Chart, histogram
from pipelines.markup import (
    beside,
    exactly,
    facts,
    figure,
    give_or_take,
    how,
    number,
    percent,
    signed,
    table,
    text,
)
from pipelines.report.look import Look
from pipelines.report.measures import Moments
from pipelines.report.words import model_name
from prefgen.judgment import logit


def clarity(look: Look) -> str:
    findings, manifest = look.findings, look.manifest
    rule, names = pairing_from(manifest).rule, ("kept", "dropped by the threshold")
    calibrated, threshold = manifest["calibration"] is not None, rule.min_confidence
    line = (threshold, "threshold") if threshold < 1 else None
    # A calibrated confidence may lie below a half, where ties are likely, and is no function of the margin.
    at = (logit(threshold), "threshold") if line and not calibrated else None
    margins = Chart("Margin of the pairs", "margin (log-odds)", names, None, at)
    sure = Chart("Confidence in the pairs", "confidence", names, None if calibrated else (0.5, 1.0), line)
    legend = names if any(findings.margins.bins[1].values()) else ()
    by_margin = (
        "The judge’s log-odds that the chosen response beats the rejected one: 0 is a toss-up, "
        "1.1 is 3 to 1, 2.2 is 9 to 1. Bars are numbers of pairs."
    )
    by_confidence = (
        "The probability that people prefer the chosen response, by the calibration; a tie counts as no."
        if calibrated
        else f"The same as a probability; left of the line ({exactly(threshold)}) pairs are dropped. It is "
        "the judge’s own certainty, not how often people agree with it."
    )
    return beside(
        figure("Margin", histogram(findings.margins, margins), by_margin, legend),
        figure("Confidence", histogram(findings.confidences, sure), by_confidence, legend),
    )


def lengths(look: Look) -> str:
    lengths = look.findings.lengths
    chosen, rejected = lengths.sides
    if not chosen.n:
        return '<p class="none">Nothing to show: this run kept no pair.</p>'
    names = ("chosen", "rejected")
    chart = Chart("Length of the responses", "characters", names, beside=True)
    said = "How many chosen and rejected responses have each length. Alike shapes: length did not decide."
    effect = lengths.cohens_d
    told = {
        "chosen, mean length": _mean(chosen),
        "rejected, mean length": _mean(rejected),
        "chosen is the longer one": percent(lengths.longer / chosen.n),
        "chosen is the shorter one": percent(lengths.shorter / chosen.n),
        "effect of length, Cohen’s d": signed(effect),
    }
    return beside(
        figure("Length, chosen and rejected", histogram(lengths.tally, chart), said, names),
        f"<div>{facts(told)}{how(_size(effect))}</div>",
    )


def _mean(moments: Moments, places: int = 0) -> str:
    return give_or_take(number(moments.mean, places), moments.sd, places)


def _size(d: float | None) -> str:
    """Cohen's names for the size of an effect, with what to do about it."""
    said = (
        "Cohen’s d is the difference of the mean lengths in standard deviations (after the ±, in characters)"
    )
    if d is None:
        return f"{said}; it needs responses of different lengths."
    size = next(
        (name for most, name in ((0.2, "tiny"), (0.5, "small"), (0.8, "medium")) if abs(d) < most), "large"
    )
    more = " A model trained on these pairs may learn the length instead of the quality."
    return f"{said}; {abs(d):.2f} is {size}.{more if abs(d) >= 0.5 else ''}"


def scores(look: Look) -> str:
    findings, config = look.findings, look.config
    chart = Chart("Scores of the responses", "score (log-odds)")
    pairwise = config["judge"] and config["judging"] == "pairwise"
    said = "How many responses have each score. " + (
        "0 is the average response to the same prompt; one point higher is 2.7 to 1 in its favour."
        if pairwise
        else "Higher is better in the judge’s eyes; only differences within one prompt mean anything."
    )
    drawn = figure("All responses", histogram(findings.scores, chart), said)
    return beside(drawn, _by_policy(findings.by_policy))


def _by_policy(by_policy: Mapping[str, Moments]) -> str:
    if len(by_policy) < 2:
        return ""
    best_first = sorted(by_policy.items(), key=lambda item: -item[1].mean)
    rows = [[text(model_name(name)), f"{told.n:,}", _mean(told, 2)] for name, told in best_first]
    said = "The mean score of each model’s responses, ± one standard deviation; the best is first."
    return f"<div>{table('By model', ('model', 'responses', 'mean'), rows)}{how(said)}</div>"


def by_kind(look: Look) -> str:
    """Pairs by what the prompt file says of the prompts."""
    shown = []
    for column, values in look.findings.slices.shown:
        rows = [
            [
                text(name),
                f"{told.prompts:,}",
                f"{told.margins.n:,}",
                number(told.margins.n / told.prompts, 2),
                number(told.margins.mean, 2) if told.margins.n else "–",
                percent(told.longer / told.margins.n) if told.margins.n else "–",
            ]
            for name, told in values
        ]
        head = ("", "prompts", "pairs", "a prompt", "mean margin", "chosen longer")
        shown.append(table(f"By {text(column)}", head, rows))
    said = (
        "A kind of prompt with few pairs, or with another margin than the rest, is learnt less, or otherwise."
    )
    return "".join(shown) + how(said) if shown else ""

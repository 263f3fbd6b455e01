"""What the tables of a run say, as sections of its report: charts, comparisons, examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.calibration.labelling import pairing_from
from pipelines.charts import Chart, histogram
from pipelines.markup import (
    beside,
    clipped,
    exactly,
    facts,
    figure,
    many,
    number,
    percent,
    signed,
    table,
    text,
)
from pipelines.report.findings import Example, Findings, Moments, Position
from prefgen.judgment import logit, sigmoid

_SPREAD = "\u00a0±\u00a0"


def clarity(findings: Findings, manifest: Mapping[str, Any]) -> str:
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


def lengths(findings: Findings) -> str:
    lengths, (chosen, rejected) = findings.lengths, findings.lengths.sides
    if not chosen.n:
        return '<p class="none">Nothing to show: this run kept no pair.</p>'
    names = ("chosen", "rejected")
    chart = Chart("Length of the responses", "characters", names, beside=True)
    how = "How many chosen and rejected responses have each length. Alike shapes: length did not decide."
    effect = lengths.cohens_d
    told = {
        "chosen, mean length": _mean(chosen),
        "rejected, mean length": _mean(rejected),
        "chosen is the longer one": percent(lengths.longer / chosen.n),
        "chosen is the shorter one": percent(lengths.shorter / chosen.n),
        "effect of length, Cohen’s d": signed(effect),
    }
    return beside(
        figure("Length, chosen and rejected", histogram(lengths.tally, chart), how, names),
        f'<div>{facts(told)}<p class="how">{_size(effect)}</p></div>',
    )


def _mean(moments: Moments, places: int = 0) -> str:
    spread = "" if moments.sd is None else f"{_SPREAD}{number(moments.sd, places)}"
    return f"{number(moments.mean, places)}{spread}"


def _size(d: float | None) -> str:
    """Cohen's names for the size of an effect, with what to do about it."""
    how = (
        "Cohen’s d is the difference of the mean lengths in standard deviations (after the ±, in characters)"
    )
    if d is None:
        return f"{how}; it needs responses of different lengths."
    size = next(
        name
        for most, name in ((0.2, "tiny"), (0.5, "small"), (0.8, "medium"), (9e9, "large"))
        if abs(d) < most
    )
    more = (
        "" if abs(d) < 0.5 else " A model trained on these pairs may learn the length instead of the quality."
    )
    return f"{how}; {abs(d):.2f} is {size}.{more}"


def scores(findings: Findings, config: Mapping[str, Any]) -> str:
    chart = Chart("Scores of the responses", "score (log-odds)")
    pairwise = config["judge"] and config["judging"] == "pairwise"
    how = "How many responses have each score. " + (
        "0 is the average response to the same prompt; one point higher is 2.7 to 1 in its favour."
        if pairwise
        else "Higher is better in the judge’s eyes; only differences within one prompt mean anything."
    )
    drawn = figure("All responses", histogram(findings.scores, chart), how)
    return beside(drawn, _by_policy(findings.by_policy))


def _by_policy(by_policy: Mapping[str, Moments]) -> str:
    if len(by_policy) < 2:
        return ""
    best_first = sorted(by_policy.items(), key=lambda item: -item[1].mean)
    rows = [[text(name), f"{told.n:,}", _mean(told, 2)] for name, told in best_first]
    how = "The mean score of each model’s responses, ± one standard deviation; the best is first."
    return f'<div>{table("By model", ("model", "responses", "mean"), rows)}<p class="how">{how}</p></div>'


def position(position: Position) -> str:
    """Only where responses were shown side by side."""
    lean = position.lean
    if not position.decided and not lean.n:
        return ""
    rate = percent(position.first / position.decided) if position.decided else "–"
    told = {"judgments that went to the response shown first": rate}
    how = "A judge without a liking for a position would be at 50%."
    if lean.n:
        told |= {
            "same verdict in both orders": percent(position.agree / lean.n),
            "lean to the first position, log-odds": _lean(lean),
            "a toss-up would go to the response shown first": percent(sigmoid(lean.mean)),
        }
        how += (
            f" {many(lean.n, 'question')} asked in both orders: the mean of the two is what counts, which "
            "cancels the lean (its mean ± one standard deviation is shown)."
        )
    return f'{facts(told)}<p class="how">{how}</p>'


def _lean(lean: Moments) -> str:
    return signed(lean.mean) + ("" if lean.sd is None else f"{_SPREAD}{number(lean.sd, 2)}")


def examples(findings: Findings) -> str:
    groups = (
        ("The clearest", findings.clearest.items),
        ("Kept, nearest to the threshold", findings.nearest.items),
        ("Dropped, nearest to the threshold", findings.dropped.items),
    )
    shown = "".join(
        f'<h3 class="group">{name}</h3>{"".join(map(_article, items))}' for name, items in groups if items
    )
    return shown or '<p class="none">Nothing to show: this run has no pair.</p>'


def _article(example: Example) -> str:
    told = f"margin {signed(example.margin)}, confidence {percent(example.confidence)}"
    sides = _side("Chosen", example.chosen, " won") + _side("Rejected", example.rejected)
    reasons = "".join(
        f'<div class="reason"><p class="tag">The judge, {asked}</p>{clipped(said)}</div>'
        for asked, said in example.reasons
    )
    prompt = f'<p class="tag">Prompt</p>{clipped(example.prompt)}'
    return f'<article><h4>{told}</h4>{prompt}<div class="grid">{sides}</div>{reasons}</article>'


def _side(name: str, response: str, style: str = "") -> str:
    tag = f'<p class="tag">{name}, {len(response):,} characters</p>'
    return f'<div class="side{style}">{tag}{clipped(response)}</div>'

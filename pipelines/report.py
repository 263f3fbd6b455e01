"""report.html: one file that shows what a run made. Needs no network and runs no script."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import Any

from pipelines.charts import Chart, histogram
from pipelines.findings import CHOSEN, REJECTED, Example, Findings, Moments, Position, find
from pipelines.markup import clipped, facts, figure, number, percent, plain, signed, table, text
from prefgen.judgment import logit, sigmoid
from prefgen.run import RunDirectory

_TEMPLATES = importlib.resources.files("pipelines") / "templates"
_DROPPED = {
    "margin": "below the confidence threshold",
    "tie": "a tie",
    "inconsistent": "judged against their own ranking",
    "judge_failure": "without a usable judgment",
    "near_identical": "nearly the same text twice",
    "chosen_truncated": "the better one was cut by the token limit",
    "chosen_empty": "the better one was empty",
    "length_gap": "too different in length",
    "over_max_pairs": "more than the pairs allowed per prompt",
}
_FAILURES = {
    "parse_failure": "the reply could not be read",
    "refusal": "the model refused",
    "truncated": "the reply was cut by the token limit",
    "api_error": "the provider answered with an error",
    "timeout": "no answer in time",
}
_PLANTED = {
    "identical": "a response against itself must not become a pair",
    "empty": "a response must not lose to an empty one",
    "corrupted": "a response must not lose to its own words shuffled",
    "swapped": "the shuffled pair told the other way round must come out the same",
}
_TIMINGS = {"start_models": "starting the models", "sample_and_judge": "writing and judging"}


def write_report(run: RunDirectory, manifest: Mapping[str, Any]) -> None:
    """Writes `report.html` of a run whose tables are published."""
    findings, counts = find(run, manifest), manifest["counts"]
    page = Template(_read("report.html")).substitute(
        title=f"{_many(counts['pairs'], 'preference pair')} from {_many(counts['prompts'], 'prompt')}",
        style=_read("report.css"),
        lead=_lead(manifest),
        numbers=_numbers(manifest),
        flow=_flow(findings, manifest),
        clarity=_clarity(findings, manifest["config"]),
        lengths=_lengths(findings),
        scores=_scores(findings, manifest["config"]),
        position=_position(findings.position),
        checks=_planted(findings) + _failures(counts),
        examples=_examples(findings),
        making=_making(findings, manifest),
        version=text(manifest["prefgen_version"]),
    )
    run.write_text("report.html", page)


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _lead(manifest: Mapping[str, Any]) -> str:
    config = manifest["config"]
    judge = config["judge"] or config["reward_model"]
    how = "scored by the reward model" if config["reward_model"] else f"judged {config['judging']} by"
    return (
        f"Responses written by {text(', '.join(config['policy']))}, {how} {text(judge)}. A pair says which of "
        f"two responses to one prompt is better; it is kept when the judge is at least "
        f"{percent(config['min_confidence'])} sure."
    )


def _numbers(manifest: Mapping[str, Any]) -> str:
    counts = manifest["counts"]
    shown = {
        "prompts": counts["prompts"],
        "responses": counts["candidates"],
        "judgments": counts["judgments"],
        "preference pairs": counts["pairs"],
        "KTO rows": counts["kto_rows"],
        "failed calls": sum(counts["failures"].values()),
    }
    return facts({name: f"{count:,}" for name, count in shown.items()}, "figures")


def _flow(findings: Findings, manifest: Mapping[str, Any]) -> str:
    """The funnel: what was left after each step, and what was lost to which reason."""
    counts = manifest["counts"]
    lost = {key: n for key, n in counts["dropped"].items() if key != "fewer_than_two_candidates"}
    alone = counts["dropped"].get("fewer_than_two_candidates", 0)
    written, looked_at = counts["candidates"], counts["pairs"] + sum(lost.values())
    asked = _many(counts["judgments"], "judgment") + (
        f" of {_many(counts['comparisons'], 'comparison')}" if counts["comparisons"] else ""
    )
    judged = [asked, *_lost(findings.unscored, {})]
    steps = [
        _step(counts["prompts"], counts["prompts"], "prompts", []),
        _step(written, written, "responses written", [], start=True),
        _step(written - counts["duplicates"], written, "distinct", _lost({"": counts["duplicates"]}, _SAME)),
        _step(findings.scores.n, written, "judged", judged),
        _step(looked_at, looked_at, "pairs looked at", _lost({"": alone}, _ALONE), start=True),
        _step(counts["pairs"], looked_at, "pairs kept", _lost(lost, _DROPPED)),
    ]
    how = (
        "Read from top to bottom: each line is what was left after a step, with what was lost at its right. "
        "Bars compare the responses with all responses written, and the pairs with all pairs looked at."
    )
    return f'<ol class="flow">{"".join(steps)}</ol><p class="how">{how}</p>'


_SAME = {"": "the same text as another response"}
_ALONE = {"": "prompts had fewer than two usable responses"}


def _step(count: int, base: int, what: str, notes: Sequence[str], start: bool = False) -> str:
    share = 100 * count / base if base else 0
    bar = f'<span class="bar" aria-hidden="true"><span style="width:{share:.1f}%"></span></span>' if base else ""
    first = ' class="start"' if start else ""
    return f"<li{first}><b>{count:,}</b><div>{what}{bar}</div><small>{'; '.join(notes)}</small></li>"


def _lost(counts: Mapping[str, int], words: Mapping[str, str]) -> list[str]:
    largest_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"{n:,} {text(words.get(name, name.replace('_', ' ')))}" for name, n in largest_first if n]


def _clarity(findings: Findings, config: Mapping[str, Any]) -> str:
    threshold, names = config["min_confidence"], ("kept", "dropped by the threshold")
    line = "threshold"
    margins = Chart("Margin of the pairs", "margin (log-odds)", names, None, (logit(threshold), line))
    sure = Chart("Confidence in the pairs", "confidence", names, (0.5, 1.0), (threshold, line))
    legend = names if any(findings.margins.bins[1].values()) else ()
    by_margin = (
        "The judge’s log-odds that the chosen response beats the rejected one: 0 is a toss-up, "
        "1.1 is 3 to 1, 2.2 is 9 to 1. Bars are numbers of pairs."
    )
    by_confidence = (
        f"The same as a probability; left of the line ({percent(threshold)}) pairs are dropped. It is the "
        "judge’s own certainty, not how often people agree with it."
    )
    return _beside(
        figure("Margin", histogram(findings.margins, margins), by_margin, legend),
        figure("Confidence", histogram(findings.confidences, sure), by_confidence, legend),
    )


def _beside(*parts: str) -> str:
    return f'<div class="grid">{"".join(parts)}</div>'


def _lengths(findings: Findings) -> str:
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
    return _beside(
        figure("Length, chosen and rejected", histogram(lengths.tally, chart), how, names),
        f'<div>{facts(told)}<p class="how">{_size(effect)}</p></div>',
    )


def _mean(moments: Moments, places: int = 0) -> str:
    spread = "" if moments.sd is None else f" ± {number(moments.sd, places)}"
    return f"{number(moments.mean, places)}{spread}"


def _size(d: float | None) -> str:
    """Cohen's names for the size of an effect, with what to do about it."""
    how = "Cohen’s d is the difference of the mean lengths in standard deviations (after the ±, in characters)"
    if d is None:
        return f"{how}; it needs responses of different lengths."
    size = next(name for most, name in ((0.2, "tiny"), (0.5, "small"), (0.8, "medium"), (9e9, "large")) if abs(d) < most)
    more = "" if abs(d) < 0.5 else " A model trained on these pairs may learn the length instead of the quality."
    return f"{how}; {abs(d):.2f} is {size}.{more}"

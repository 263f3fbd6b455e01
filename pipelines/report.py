"""report.html: one file that shows what a run made. Needs no network and runs no script."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from pipelines.charts import Chart, histogram
from pipelines.findings import Example, Findings, Moments, Position, find
from pipelines.markup import clipped, facts, figure, number, percent, signed, table, text
from prefgen.judgment import logit, sigmoid
from prefgen.run import RunDirectory

_TEMPLATES = importlib.resources.files("pipelines") / "templates"
_LOST = {
    "duplicates": "with the same text as another",
    "fewer_than_two_candidates": "prompts with fewer than two responses to compare",
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
_ROLES = {"policy": "Writer of responses", "judge": "Judge", "reward_model": "Reward model"}
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
    judged = [asked, *_lost(findings.unscored)]
    steps = [
        _step(counts["prompts"], counts["prompts"], "prompts", []),
        _step(written, written, "responses written", [], start=True),
        _step(
            written - counts["duplicates"], written, "distinct", _lost({"duplicates": counts["duplicates"]})
        ),
        _step(findings.scores.n, written, "judged", judged),
        _step(
            looked_at, looked_at, "pairs looked at", _lost({"fewer_than_two_candidates": alone}), start=True
        ),
        _step(counts["pairs"], looked_at, "pairs kept", _lost(lost)),
    ]
    how = (
        "Read from top to bottom: each line is what was left after a step, with what was lost at its right. "
        "Bars compare the responses with all responses written, and the pairs with all pairs looked at."
    )
    return f'<ol class="flow">{"".join(steps)}</ol><p class="how">{how}</p>'


def _step(count: int, base: int, what: str, notes: Sequence[str], start: bool = False) -> str:
    share = 100 * count / base if base else 0
    bar = (
        f'<span class="bar" aria-hidden="true"><span style="width:{share:.1f}%"></span></span>'
        if base
        else ""
    )
    first = ' class="start"' if start else ""
    return f"<li{first}><b>{count:,}</b><div>{what}{bar}</div><small>{'; '.join(notes)}</small></li>"


def _lost(counts: Mapping[str, int]) -> list[str]:
    largest_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"{n:,} {text(_LOST.get(name, name.replace('_', ' ')))}" for name, n in largest_first if n]


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


def _scores(findings: Findings, config: Mapping[str, Any]) -> str:
    chart = Chart("Scores of the responses", "score (log-odds)")
    pairwise = config["judge"] and config["judging"] == "pairwise"
    how = "How many responses have each score. " + (
        "0 is the average response to the same prompt; one point higher is 2.7 to 1 in its favour."
        if pairwise
        else "Higher is better in the judge’s eyes; only differences within one prompt mean anything."
    )
    drawn = figure("All responses", histogram(findings.scores, chart), how)
    return _beside(drawn, _by_policy(findings.by_policy))


def _by_policy(by_policy: Mapping[str, Moments]) -> str:
    if len(by_policy) < 2:
        return ""
    best_first = sorted(by_policy.items(), key=lambda item: -item[1].mean)
    rows = [[text(name), f"{told.n:,}", _mean(told, 2)] for name, told in best_first]
    how = "The mean score of each model’s responses, ± one standard deviation; the best is first."
    return f'<div>{table("By model", ("model", "responses", "mean"), rows)}<p class="how">{how}</p></div>'


def _position(position: Position) -> str:
    """Only where responses were shown side by side."""
    if not position.decided:
        return ""
    lean, rate = position.lean, percent(position.first / position.decided)
    told = {"judgments that went to the response shown first": rate}
    how = "A judge without a liking for a position would be at 50 %."
    if lean.n:
        told |= {
            "same verdict in both orders": percent(position.agree / lean.n),
            "lean to the first position, log-odds": _lean(lean),
            "a toss-up would go to the response shown first": percent(sigmoid(lean.mean)),
        }
        how += (
            f" {_many(lean.n, 'question')} asked in both orders: the mean of the two is what counts, which "
            "cancels the lean (its mean ± one standard deviation is shown)."
        )
    title = "Does the position of a response matter?"
    return f'<section><h2>{title}</h2>{facts(told)}<p class="how">{how}</p></section>'


def _lean(lean: Moments) -> str:
    return signed(lean.mean) + ("" if lean.sd is None else f" ± {number(lean.sd, 2)}")


def _planted(findings: Findings) -> str:
    if not findings.planted:
        return '<p class="how">No pairs with a known answer were planted in this run.</p>'
    rows = []
    for kind, results in findings.planted.items():
        known = [row["margin"] for row in results if row["margin"] is not None]
        mean = signed(sum(known) / len(known)) if known else "–"
        right = sum(row["correct"] for row in results)
        rows.append([text(_PLANTED.get(kind, kind)), f"{len(results):,}", f"{right:,}", mean])
    how = "Pairs whose answer is known go the same way as all others; a single wrong one stops the run."
    head = ("what must hold", "tried", "held", "mean margin")
    return f'{table("Planted pairs", head, rows)}<p class="how">{how}</p>'


def _failures(counts: Mapping[str, Any]) -> str:
    failed = sum(counts["failures"].values())
    if not failed:
        return '<p class="how">No model call failed.</p>'
    most_first = sorted(counts["failures"].items(), key=lambda item: (-item[1], item[0]))
    rows = [[_cause(status), f"{count:,}"] for status, count in most_first]
    how = (
        f"{percent(failed / (failed + counts['judgments']))} of the calls gave no usable answer. They count "
        "for neither side; running the same command with --resume asks again."
    )
    return f'{table("Failed calls", ("cause", "calls"), rows)}<p class="how">{how}</p>'


def _cause(status: str) -> str:
    known = status.removeprefix("sampling_")
    step = "judging" if known == status else "writing"
    return f"{step}: {text(_FAILURES.get(known, known))}"


def _examples(findings: Findings) -> str:
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
    return f'<div class="side{style}"><p class="tag">{name}, {len(response):,} characters</p>{clipped(response)}</div>'


def _making(findings: Findings, manifest: Mapping[str, Any]) -> str:
    config = manifest["config"]
    rule = {
        "pairs from each prompt": f"{text(config['strategy'])}, at most {config['max_pairs']:,}",
        "confidence, at least": percent(config["min_confidence"]),
        "seed": text(manifest["seed"]),
    }
    if config["judge"]:
        rule = {"constitution": text(Path(config["constitution"]).name)} | rule
        rule |= {"constitution, hash": text(findings.constitution or "unknown")}
    rows = {f"{name} rows": _splits(splits) for name, splits in manifest["splits"].items()}
    models = "".join(f"<h3>{role}</h3>{facts(told)}" for role, told in _models(manifest["models"]))
    usage = f"<h3>Calls and time</h3>{facts(_usage(manifest))}"
    return _beside(f"<div>{models}</div>", f"<div><h3>Rules</h3>{facts(rule | rows)}{usage}</div>")


def _splits(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {text(name)}" for name, count in splits.items())


def _models(models: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """(role, facts) of every model of the manifest."""
    for role, entries in models.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            missing = ", ".join(name.replace("_", " ") for name in entry.get("capabilities_missing", ()))
            yield (
                text(_ROLES.get(role, role)),
                {
                    "asked for": text(entry["spec"]),
                    "answered as": text(entry["served"]),
                    "found missing": text(missing) or "nothing",
                },
            )


def _usage(manifest: Mapping[str, Any]) -> dict[str, str]:
    usage = manifest["usage"]
    cost = usage["cost_usd"]
    told = {
        "calls paid": number(usage["requests"]),
        "calls answered by the ledger": number(usage["cached_requests"]),
        "tokens read": number(usage["input_tokens"]),
        "tokens written": number(usage["output_tokens"]),
        "cost": "unknown" if cost is None else f"${number(cost, 2 if cost >= 1 or not cost else 4)}",
    }
    timings = manifest["timings"].items()
    return told | {_TIMINGS.get(name, name.replace("_", " ")): _time(seconds) for name, seconds in timings}


def _time(seconds: float) -> str:
    """Seconds below two minutes, else minutes or hours."""
    if seconds < 120:
        return f"{number(seconds, 1)} s"
    return f"{number(seconds / 60, 1)} min" if seconds < 7200 else f"{number(seconds / 3600, 1)} h"

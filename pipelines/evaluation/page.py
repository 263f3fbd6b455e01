"""report.html of an evaluation: is the model better, by how much, and for its length? Runs no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import Any

from pipelines.charts import Chart, Tally, histogram
from pipelines.evaluation.annotations import Annotation, read_annotations
from pipelines.evaluation.summary import evaluation_summary
from pipelines.forest import Rate, forest
from pipelines.markup import beside, clipped, facts, figure, how, many, number, percent, signed, table, text
from pipelines.page import outstanding, page, section
from pipelines.report.words import FAILURES, model_name, money
from prefgen.files import read_json, write_whole

Found = Mapping[str, Any]
ANNOTATIONS = "annotations.jsonl"
_SHOWN = 2
_CLOSE = 0.1
_SIGNIFICANT = 0.05


def report_evaluation(folder: Path) -> tuple[dict[str, Any], str]:
    """Writes the page of an evaluation anew; its evaluation.json and the same in a few lines."""
    result = read_json(folder / "evaluation.json")
    annotations, manifest = folder / ANNOTATIONS, folder / "manifest.json"
    write_page(
        folder,
        result,
        read_annotations(annotations) if annotations.is_file() else [],
        read_json(manifest) if manifest.is_file() else None,
    )
    return result, evaluation_summary(result, folder)


def write_page(
    folder: Path, result: Found, annotations: Sequence[Annotation], manifest: Found | None = None
) -> None:
    """Writes `report.html`. `result`: what evaluation.json holds; `annotations`: what it was measured on,
    empty where that is gone."""
    whole = page(
        "prefgen evaluation",
        f"Win rate {Rate('', result['win_rate'], result['ci']).in_words}",
        _lead(result),
        _numbers(result) + outstanding(result.get("warnings") or ()),
        (
            section("Win rates", _rates(result)),
            section("What people say", _human(result.get("human"))),
            section("Against another evaluation", _against(result.get("against"))),
            section("How clear the verdicts are", _clarity(annotations)),
            section("Length and position", _form(result)),
            section("What it cost elsewhere", _tax(result.get("alignment_tax"))),
            section("Answers to read", _answers(annotations)),
            section("Prompts without a judgment", _failures(result, annotations)),
            section("How it was made", "" if manifest is None else _making(manifest, result)),
        ),
        "A judge’s win rate is a judge’s opinion: read some answers.",
    )
    write_whole(folder / "report.html", whole)


def _lead(result: Found) -> str:
    (low, high), tested = result["ci"], result["significance"]
    verdict = "it is not sure which of the two is better"
    # Of a few prompts the interval alone is too narrow.
    if (low > 50 or high < 50) and (tested is None or tested["p_value"] < _SIGNIFICANT):
        verdict = f"the {'model' if low > 50 else 'baseline'} is better in the judge’s eyes"
    ours, theirs = (
        model_name(result[name]) if result.get(name) else f"the {name}" for name in ("model", "baseline")
    )
    judge = f", judged by {model_name(result['judge'])}" if result.get("judge") else ""
    return text(f"{ours} against {theirs} on {many(result['n'], 'prompt')}{judge}: {verdict}.")


def _numbers(result: Found) -> str:
    shown = {name: f"{result[name]:,}" for name in ("wins", "ties", "losses")}
    shown["prompts judged"] = f"{result['n']:,}"
    shown["without a judgment"] = f"{result['n_failed']:,}"
    return facts(shown, "figures")


def rates_of(result: Found) -> Iterator[Rate]:
    """Every win rate of an evaluation with its interval."""
    yield Rate("win rate", result["win_rate"], result["ci"])
    yield Rate("each prompt won or lost", result["discrete_win_rate"], result.get("discrete_ci"))
    yield Rate("at equal length", result["length_controlled_win_rate"], result["length_controlled_ci"])
    style, human = result.get("style_controlled"), result.get("human") or {}
    if style:
        yield Rate("at equal style", style["value"], style["ci"])
    for name, words in (("prediction_powered", "with people’s labels"), ("rogan_gladen", "errors taken out")):
        told = human.get(name)
        if told and told["ci"]:
            yield Rate(words, told["value"], told["ci"])


def _rates(result: Found) -> str:
    said = (
        "Dots with 95% intervals over prompts; the dashed line is an even match. An interval that reaches "
        "over it says that this many prompts do not tell which is better."
    )
    drawn = figure("Win rates", forest("Win rates", list(rates_of(result))), said)
    return beside(drawn, f"<div>{facts(_chance(result))}</div>")


def _chance(result: Found) -> dict[str, str]:
    told = {}
    if result["standard_error"] is not None:
        told["standard error, points"] = number(result["standard_error"], 2)
    told["independent prompts"] = f"{result['n_clusters']:,}"
    if result["significance"]:
        told["chance alone would make as large a difference, p"] = f"{result['significance']['p_value']:.2g}"
    if result["sequential"]:
        after = result["sequential"]["clear_after"]
        told["clear after"] = many(after, "prompt") if after else "not clear"
    if result["power"]:
        power = result["power"]
        told["difference that so many prompts find"] = f"{number(power['detectable_difference'], 1)} points"
        told[f"prompts to find {power['difference']:g} points"] = f"{power['prompts_needed']:,}"
    return told


def _human(human: Found | None) -> str:
    if human is None:
        return ""
    told = {
        "labelled prompts": f"{human['n']:,}",
        "win rate of the labels": f"{human['human_win_rate']:.1f}%",
    }
    powered, corrected = human["prediction_powered"], human["rogan_gladen"]
    if powered:
        told["labels it is worth with the judge’s help"] = number(powered["effective_labels"])
    if corrected:
        told["the judge sees a win of people’s"] = percent(corrected["sensitivity"])
        told["and a loss"] = percent(corrected["specificity"])
    refused = corrected and corrected.get("refused")
    return facts(told) + (how(f"Not corrected for the judge’s errors: {refused}.") if refused else "")


def _against(told: Found | None) -> str:
    if told is None:
        return ""
    low, high = (signed(end, 1) for end in told["ci"])
    shown = {
        "compared with": text(told["annotations"]),
        "difference, points": f"{signed(told['difference'], 1)} ({low} to {high})",
        "shared prompts": f"{told['n']:,}",
        "chance alone would make as large a difference, p": f"{told['p_value']:.2g}",
    }
    return facts(shown)


def _clarity(annotations: Sequence[Annotation]) -> str:
    tally = Tally(0.05, most=24)
    for item in annotations:
        if item.preference is not None:
            tally.add(min(item.preference, 1 - 1e-9))
    if not tally.n:
        return ""
    chart = Chart(
        "Preference by prompt", "probability that the model is better", range=(0, 1), line=(0.5, "even")
    )
    said = "Bars are numbers of prompts. Many in the middle: the judge can hardly tell the two apart."
    return beside(figure("Preference", histogram(tally, chart), said))


def _form(result: Found) -> str:
    position = result["position"]
    told = {
        "mean length, model": number(result["length_model_mean"]),
        "mean length, baseline": number(result["length_baseline_mean"]),
    }
    left = f"<div><h3>Length, characters</h3>{facts(told)}</div>"
    if position is None:
        return beside(left)
    rate = position["first_slot_rate"]
    where = {
        "prompts judged in both orders": f"{position['n_both_orders']:,}",
        "same verdict in both orders": percent(position["consistency"]),
        "verdicts for the answer shown first": "–" if rate is None else percent(rate),
    }
    return beside(left, f"<div><h3>Position</h3>{facts(where)}</div>")


def _tax(tax: Found | None) -> str:
    rows = [] if tax is None else list(_tax_rows(tax))
    if not rows:
        return ""
    said = "What alignment may cost: held-out text and tasks that have nothing to do with the preferences."
    return table("Before and after", ("", "baseline", "model", "difference"), rows) + how(said)


def _tax_rows(tax: Found) -> Iterator[list[str]]:
    loss = tax["log_loss"]
    if loss:
        values = (number(loss[side]["value"], 4) for side in ("baseline", "model"))
        yield ["log-loss, nats a token", *values, _change(loss["difference"], 4)]
    for name, task in tax["tasks"].items():
        for metric in ("exact_match", "contains"):
            told = task[metric]
            if told["difference"]:
                values = (f"{told[side]['value']:.1f}%" for side in ("baseline", "model"))
                words = f"{text(name)}, {metric.replace('_', ' ')}"
                yield [words, *values, _change(told["difference"], 1)]


def _change(told: Found, places: int) -> str:
    low, high = (signed(end, places) for end in told["ci"])
    return f"{signed(told['value'], places)} ({low} to {high})"


def _answers(annotations: Sequence[Annotation]) -> str:
    judged = [item for item in annotations if item.preference is not None and item.response_model is not None]
    wins = nlargest(_SHOWN, judged, key=lambda item: item.preference or 0)
    losses = nsmallest(_SHOWN, judged, key=lambda item: item.preference or 0)
    close = [item for item in nsmallest(1, judged, key=_even) if _even(item) < _CLOSE]
    groups = {
        "Clearest for the model": [item for item in wins if (item.preference or 0) > 0.5],
        "Clearest for the baseline": [item for item in losses if (item.preference or 0) < 0.5],
        "Hardest to tell apart": [item for item in close if item not in (*wins, *losses)],
    }
    return "".join(
        f'<h3 class="group">{name}</h3>{"".join(map(_article, items))}'
        for name, items in groups.items()
        if items
    )


def _even(item: Annotation) -> float:
    return abs((item.preference or 0) - 0.5)


def _article(item: Annotation) -> str:
    told = f"the judge prefers the model with a probability of {percent(item.preference or 0)}"
    ours = (item.preference or 0) - 0.5
    sides = "".join(
        f'<div class="side{" won" if better else ""}"><p class="tag">{name}, {len(response):,} characters</p>'
        f"{clipped(response)}</div>"
        for name, response, better in (
            ("Model", item.response_model or "", ours > 0),
            ("Baseline", item.response_baseline or "", ours < 0),
        )
    )
    prompt = f'<p class="tag">Prompt</p>{clipped(item.prompt)}' if item.prompt else ""
    return f'<article><h4>{told}</h4>{prompt}<div class="grid">{sides}</div></article>'


def _failures(result: Found, annotations: Sequence[Annotation]) -> str:
    if not result["n_failed"]:
        return ""
    causes = {
        cause: text(FAILURES.get(cause, cause.replace("_", " "))) for cause in result.get("failures") or {}
    }
    rows = [[causes[cause], f"{count:,}"] for cause, count in (result.get("failures") or {}).items()]
    first = {item.failure: item for item in reversed(annotations) if item.preference is None}
    shown = "".join(
        f"<article><h4>{words}: one prompt</h4>{clipped(item.prompt)}</article>"
        for cause, words in causes.items()
        if (item := first.get(cause)) and item.prompt
    )
    return table("By cause", ("cause", "prompts"), rows) + shown


def _making(manifest: Found, result: Found) -> str:
    usage = manifest["usage"]
    told = {name: text(result[name]) for name in ("model", "baseline") if result.get(name)}
    judges = (item for item in _entries(manifest["models"]) if item[0] not in told)
    told |= {name.replace("_", " "): text(entry["spec"]) for name, entry in judges}
    told |= {"seed": text(manifest["seed"]), "made": text(manifest.get("created", "unknown"))}
    spent = {
        "calls paid": number(usage["requests"]),
        "calls answered by the ledger": number(usage["cached_requests"]),
        "tokens read": number(usage["input_tokens"]),
        "tokens written": number(usage["output_tokens"]),
        "cost": money(usage["cost_usd"]),
    }
    return beside(f"<div>{facts(told)}</div>", f"<div>{facts(spent)}</div>")


def _entries(models: Found) -> Iterator[tuple[str, Found]]:
    for role, entries in models.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            yield role, entry

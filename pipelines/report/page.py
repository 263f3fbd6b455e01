"""report.html: one file that shows what a run made. Needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.markup import beside, facts, many, number, percent, signed, table, text
from pipelines.page import page, section
from pipelines.report.figures import clarity, examples, lengths, position, scores
from pipelines.report.findings import Findings, Planted, find
from pipelines.report.used_by import used_by
from pipelines.summary import cached_share, rule_in_words
from prefgen.planted import MUST_HOLD
from prefgen.run import RunDirectory

_LOST = {
    "duplicates": "with the same text as another",
    "contaminated": "left out: they hold an evaluation question",
    "fewer_than_two_candidates": "of the prompts had fewer than two responses",
    "margin": "below the confidence threshold",
    "tie": "tied",
    "inconsistent": "with a verdict against the ranking",
    "unfinished": "with an empty or cut response",
    "judge_failure": "without a usable judgment",
    "not_compared": "whose two responses did not meet in both orders",
    "near_identical": "nearly the same text twice",
    "chosen_truncated": "the better one was cut by the token limit",
    "chosen_empty": "the better one was empty",
    "length_gap": "too different in length",
    "over_max_pairs": "over the limit for one prompt",
    "spared": "not needed, because a pair was clear before",
}
_FAILURES = {
    "parse_failure": "the reply could not be read",
    "refusal": "the model refused",
    "truncated": "the reply was cut by the token limit",
    "api_error": "the provider answered with an error",
    "timeout": "no answer in time",
}
_ROLES = {"policy": "Writer of responses", "judge": "Judge", "reward_model": "Reward model"}
_TIMINGS = {"start_models": "starting the models", "sample_and_judge": "writing and judging"}


def write_report(run: RunDirectory, manifest: Mapping[str, Any]) -> None:
    """Writes `report.html` of a run whose tables are published."""
    findings, counts = find(run, manifest), manifest["counts"]
    run.write_text(
        "report.html",
        page(
            "prefgen report",
            f"{many(counts['pairs'], 'preference pair')} from {many(counts['prompts'], 'prompt')}",
            _lead(manifest),
            _numbers(manifest),
            (
                section("From prompts to pairs", _flow(findings, manifest)),
                section("How clear the preferences are", clarity(findings, manifest)),
                section("Is the longer response the better one?", lengths(findings)),
                section("Scores", scores(findings, manifest["config"])),
                section("Does the position of a response matter?", position(findings.position)),
                section("Checks", _planted(findings) + _failures(counts)),
                section("Examples", examples(findings)),
                section("How it was made", _making(findings, manifest)),
                section("Used by", used_by(run.path)),
            ),
            "The labels are a model’s opinion: look at the examples before you train.",
        ),
    )


def _lead(manifest: Mapping[str, Any]) -> str:
    config = manifest["config"]
    judge = manifest["judge"]
    how = "scored by the reward model" if config["reward_model"] else f"judged {config['judging']} by"
    return (
        f"Responses written by {text(', '.join(config['policy']))}, {how} {text(judge)}. A pair says which "
        f"of two responses to one prompt is better. It is kept with {text(rule_in_words(manifest))}."
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
    of_prompts = ("contaminated", "fewer_than_two_candidates")
    lost = {key: n for key, n in counts["dropped"].items() if key not in of_prompts}
    left_out = _lost({"contaminated": counts["dropped"].get("contaminated", 0)})
    alone = counts["dropped"].get("fewer_than_two_candidates", 0)
    written, looked_at = counts["candidates"], counts["pairs"] + sum(lost.values())
    judged = [many(counts["judgments"], "judgment"), *_lost(findings.unscored)]
    spared = _lost({"spared": counts.get("spared", {}).get("candidates", 0)})
    steps = [
        _step(counts["prompts"], counts["prompts"], "prompts", left_out),
        _step(written, written, "responses written", spared, start=True),
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
        "Read from top to bottom: each line is what was left after a step, with what was lost beside it. "
        "Bars compare the responses with all responses written, and the pairs with all pairs looked at."
    )
    return f'<ol class="flow">{"".join(steps)}</ol><p class="how">{how}</p>'


def _step(count: int, base: int, what: str, notes: Sequence[str], start: bool = False) -> str:
    share = 100 * count / base if base else 0
    filled = f'<span style="width:{share:.1f}%"></span>' if count else ""
    bar = f'<span class="bar" aria-hidden="true">{filled}</span>' if base else ""
    first = ' class="start"' if start else ""
    lost = "".join(f"<span>{note}</span>" for note in notes)
    return f"<li{first}><b>{count:,}</b><div>{what}{bar}</div><small>{lost}</small></li>"


def _lost(counts: Mapping[str, int]) -> list[str]:
    largest_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"{n:,} {text(_LOST.get(name, name.replace('_', ' ')))}" for name, n in largest_first if n]


def _planted(findings: Findings) -> str:
    if not findings.planted:
        return '<p class="how">No pairs with a known answer were planted in this run.</p>'
    rows = [
        [text(MUST_HOLD[kind]), f"{told.tried:,}", f"{told.held:,}", _mean_margin(told)]
        for kind, told in findings.planted.items()
    ]
    how = "Pairs whose answer is known go the same way as all others; a single wrong one stops the run."
    head = ("what must hold", "tried", "held", "mean margin")
    return f'{table("Planted pairs", head, rows)}<p class="how">{how}</p>'


def _mean_margin(planted: Planted) -> str:
    return signed(planted.margins.mean) if planted.margins.n else "–"


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


def _making(findings: Findings, manifest: Mapping[str, Any]) -> str:
    config = manifest["config"]
    rule = {
        "pairs from each prompt": f"{text(config['strategy'])}, at most {config['max_pairs']:,}",
        "kept with": text(rule_in_words(manifest)),
        "seed": text(manifest["seed"]),
    }
    if config["judge"]:
        name, hashed = Path(config["constitution"]).name, findings.constitution or "unknown"
        rule = {"constitution": text(name), "constitution, hash": text(hashed)} | rule
    if manifest["expected_label_precision"] is not None:
        rule["labels expected to be right"] = percent(manifest["expected_label_precision"])
    rows = {f"{name.upper()} rows": _splits(splits) for name, splits in manifest["splits"].items()}
    models = "".join(f"<h3>{role}</h3>{facts(told)}" for role, told in _models(manifest["models"]))
    usage = f"<h3>Calls and time</h3>{facts(_usage(manifest))}"
    return beside(f"<div>{models}</div>", f"<div><h3>Rules</h3>{facts(rule | rows)}{usage}</div>")


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
                    **_prefixes(entry),
                },
            )


def _prefixes(entry: Mapping[str, Any]) -> dict[str, str]:
    rate = entry.get("prefix_cache_hit_rate")
    return {} if rate is None else {"prompt tokens found in its prefix cache": percent(rate)}


def _usage(manifest: Mapping[str, Any]) -> dict[str, str]:
    usage = manifest["usage"]
    told = {
        "calls paid": number(usage["requests"]),
        "calls answered by the ledger": number(usage["cached_requests"]),
        "calls tried again": number(usage["retries"]),
        "told to slow down, times": number(usage["rate_limited"]),
        "tokens read": number(usage["input_tokens"]),
        "of these from a prompt cache": percent(cached_share(usage)),
        "tokens written": number(usage["output_tokens"]),
        "cost": _money(usage["cost_usd"]),
    }
    if usage["cost_usd"]:
        told |= {f"cost, {role}": _money(part["cost_usd"]) for role, part in usage.get("by_role", {}).items()}
        told["cost of a kept pair"] = _money(usage.get("cost_per_pair_usd"))
    if usage.get("unanswered_usd"):
        told["calls without an answer may have cost"] = _money(usage["unanswered_usd"])
    timings = manifest["timings"].items()
    return told | {_TIMINGS.get(name, name.replace("_", " ")): _time(seconds) for name, seconds in timings}


def _money(cost: float | None) -> str:
    return "unknown" if cost is None else f"${number(cost, 2 if cost >= 1 or not cost else 4)}"


def _time(seconds: float) -> str:
    """Seconds below two minutes, else minutes or hours."""
    if seconds < 120:
        return f"{number(seconds, 1)} s"
    return f"{number(seconds / 60, 1)} min" if seconds < 7200 else f"{number(seconds / 3600, 1)} h"

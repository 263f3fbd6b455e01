"""A finished run in a few lines of text: the counts, what stands out, then the facts by name."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.markup import many, number, percent, signed
from pipelines.report.verdict import stands_out
from pipelines.report.words import LOST, ROLES, TIMINGS, failure, money, time_in_words

_WIDTH, _NAME = 110, 11
_MOST_OUTSTANDING, _MOST_LINES = 6, 29
OF_PROMPTS = ("contaminated", "fewer_than_two_candidates")
"""What is dropped as a prompt and not as a pair."""


def run_summary(out: Path, manifest: Mapping[str, Any]) -> str:
    """Under 30 lines; what `report.html` shows in pictures."""
    counts = manifest["counts"]
    lines = [
        f"{counts['prompts']} prompts → {counts['candidates']} candidates → {counts['judgments']} judgments "
        f"→ {counts['pairs']} pairs, {counts['kto_rows']} KTO rows"
    ]
    outstanding = list(stands_out(manifest))
    if len(outstanding) > _MOST_OUTSTANDING:
        more = len(outstanding) - _MOST_OUTSTANDING + 1
        outstanding = [*outstanding[: _MOST_OUTSTANDING - 1], f"and {more} more things, in report.html"]
    for name, told in [("look at", outstanding), *_facts(out, manifest)]:
        lines += _block(name, told)
    return "\n".join(lines[:_MOST_LINES])


def _block(name: str, told: list[str]) -> Iterator[str]:
    """A name at the left of its lines, each of two lines at most."""
    for place, words in enumerate(told):
        first = (name if not place else "").ljust(_NAME)
        yield from textwrap.wrap(
            words,
            _WIDTH,
            initial_indent=first,
            subsequent_indent=" " * _NAME,
            max_lines=2,
            placeholder=" …",
            break_on_hyphens=False,
        )


def _facts(out: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each is left out where nothing is known of it."""
    counts, found = manifest["counts"], manifest.get("found") or {}
    yield "kept", [_kept(manifest)]
    yield "dropped", [_listed(counts["dropped"]) or "none"]
    yield "later", _later(counts) + _spared(counts["spared"])
    yield "lengths", _lengths(found.get("lengths"))
    yield "position", _position(found.get("position"))
    yield "judges", _among(found.get("judges", []), "two judges give the same verdict on")
    yield "principles", _among(found.get("principles", []), "two principles give the same verdict on")
    yield "failed", [_listed({failure(cause): n for cause, n in counts["failures"].items()}) or "no call"]
    yield "calls", [_calls(manifest["usage"])]
    yield "cost", [_cost(manifest["usage"])]
    yield "time", [_time(manifest["timings"])] if manifest["timings"] else []
    yield "written", [_written(out, manifest)]


def _kept(manifest: Mapping[str, Any]) -> str:
    counts, precision = manifest["counts"], manifest["expected_label_precision"]
    looked_at = pairs_looked_at(counts)
    of = (
        f" of {many(looked_at, 'pair')} looked at ({percent(counts['pairs'] / looked_at)})"
        if looked_at
        else ""
    )
    expected = "" if precision is None else f"; people should agree with {percent(precision)} of the labels"
    return f"{counts['pairs']:,}{of}{expected}; with {rule_in_words(manifest)}"


def pairs_looked_at(counts: Mapping[str, Any]) -> int:
    lost = sum(n for name, n in counts["dropped"].items() if name not in OF_PROMPTS)
    return int(counts["pairs"] + lost)


def _listed(counts: Mapping[str, int]) -> str:
    """Most first."""
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {LOST.get(name, name.replace('_', ' '))}" for name, n in most_first if n)


def _later(counts: Mapping[str, Any]) -> list[str]:
    return [
        f"{judge} was asked about {asked:,} of {counts['pairs'] + counts['unsure']:,} pairs and kept "
        f"{counts['kept'].get(judge, 0):,}"
        for judge, asked in counts["asked"].items()
    ]


def _spared(spared: Mapping[str, int]) -> list[str]:
    if not spared:
        return []
    told = " and ".join(f"{count:,} {name}" for name, count in spared.items())
    return [f"not needed, since a pair was clear before: {told}"]


def _lengths(told: Mapping[str, Any] | None) -> list[str]:
    if not told:
        return []
    return [
        f"chosen {number(told['chosen'])} characters, rejected {number(told['rejected'])}; chosen is the "
        f"longer one in {percent(told['chosen_longer'])}; Cohen’s d {signed(told['cohens_d'])}"
    ]


def _position(told: Mapping[str, Any] | None) -> list[str]:
    if not told:
        return []
    words = []
    if told["first_slot_rate"] is not None:
        words.append(f"{percent(told['first_slot_rate'])} of the verdicts for the response shown first")
    if told["n_both_orders"]:
        words.append(
            f"same verdict in both orders {percent(told['same_verdict'])}; lean {signed(told['lean'])} "
            "log-odds, averaged out"
        )
    return ["; ".join(words)]


def _among(told: list[Mapping[str, Any]], what: str) -> list[str]:
    """How far several views agree; `told` has those that agree least first."""
    if not told:
        return []
    least, most = told[0], told[-1]
    if least["same"] == most["same"]:
        return [f"{what} {percent(least['same'])} of {many(least['n'], 'pair')}"]
    return [
        f"{what} {percent(least['same'])} ({least['one']}, {least['other']}) to {percent(most['same'])} of "
        "the pairs"
    ]


def _calls(usage: Mapping[str, Any]) -> str:
    share = cached_share(usage)
    cached = f" ({percent(share)} from a prompt cache)" if share else ""
    return (
        f"{usage['requests']:,} paid, {usage['cached_requests']:,} from the ledger; "
        f"{usage['input_tokens']:,} tokens read{cached}, {usage['output_tokens']:,} written"
    )


def cached_share(usage: Mapping[str, Any]) -> float:
    """Of the input tokens paid for, those that a provider's prompt cache had."""
    return float(usage.get("cached_tokens", 0) / max(1, usage["input_tokens"]))


def _cost(usage: Mapping[str, Any]) -> str:
    if usage["cost_usd"] is None:
        return "unknown (no price given)"
    pair = usage.get("cost_per_pair_usd")
    roles = usage.get("by_role", {}) if usage["cost_usd"] else {}
    parts = [f"{ROLES.get(role, role).lower()} {money(part['cost_usd'])}" for role, part in roles.items()]
    parts += [f"{money(pair)} a kept pair"] if pair else []
    return "; ".join([money(usage["cost_usd"]), *parts])


def _time(timings: Mapping[str, float]) -> str:
    return ", ".join(
        f"{time_in_words(seconds)} {TIMINGS.get(name, name.replace('_', ' '))}"
        for name, seconds in timings.items()
    )


def _written(out: Path, manifest: Mapping[str, Any]) -> str:
    unsure = manifest["counts"]["unsure"]
    return (
        f"{out}: dpo/ ({splits_in_words(manifest['splits']['dpo'])}), kto/ "
        f"({splits_in_words(manifest['splits']['kto'])}), report.html, README.md; {many(unsure, 'pair')} for "
        "people to decide in undecided.parquet"
    )


def splits_in_words(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in splits.items())


def rule_in_words(manifest: Mapping[str, Any]) -> str:
    """What a pair had to reach."""
    calibrated = manifest["calibration"]
    if calibrated is None or calibrated["target"] is None:
        kind = "confidence" if calibrated is None else "calibrated confidence"
        return f"{kind} ≥ {manifest['config']['min_confidence']:g}"
    thresholds = [
        (f"{stage['judge']} " if stage["judge"] else "")
        + (f"≥ {stage['selective']['threshold']:.3f}" if stage["selective"] else "never sure enough")
        for stage in calibrated["stages"]
    ]
    return (
        f"calibrated confidence {', '.join(thresholds)}, which earns {100 * calibrated['target']:g}% "
        f"precision by {calibrated['n_labels']} labels"
    )

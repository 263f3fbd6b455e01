"""A finished run in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_summary(out: Path, manifest: dict[str, Any]) -> str:
    counts, usage = manifest["counts"], manifest["usage"]
    dropped = ", ".join(f"{name} {count}" for name, count in counts["dropped"].items()) or "none"
    failed = ", ".join(f"{name} {count}" for name, count in counts["failures"].items()) or "none"
    later = [
        f"{judge} was asked about {asked} of {counts['pairs'] + counts['unsure']} pairs "
        f"and kept {counts['kept'].get(judge, 0)}"
        for judge, asked in counts["asked"].items()
    ]
    precision = manifest["expected_label_precision"]
    expected = "" if precision is None else f"; people should agree with {precision:.1%} of the labels"
    return "\n".join(
        [
            f"{counts['prompts']} prompts → {counts['candidates']} candidates → "
            f"{counts['judgments']} judgments → {counts['pairs']} pairs, {counts['kto_rows']} KTO rows",
            f"kept: {rule_in_words(manifest)}{expected}",
            f"dropped: {dropped}; failed calls: {failed}",
            *later,
            *_spared(counts["spared"]),
            f"calls: {usage['requests']} paid, {usage['cached_requests']} from the ledger; {_cost(usage)}",
            *_cached(usage),
            f"written to {out}: dpo/ kto/ candidates, judgments and scores, report.html, README.md; "
            f"{counts['unsure']} pairs for people to decide in undecided.parquet",
        ]
    )


def cached_share(usage: Mapping[str, Any]) -> float:
    """Of the input tokens paid for, those that a provider's prompt cache had."""
    return float(usage.get("cached_tokens", 0) / max(1, usage["input_tokens"]))


def _cached(usage: Mapping[str, Any]) -> list[str]:
    share = cached_share(usage)
    return [f"{share:.0%} of the tokens read came from a prompt cache"] if share else []


def _cost(usage: Mapping[str, Any]) -> str:
    if usage["cost_usd"] is None:
        return "cost unknown (no price given)"
    cost, pair = f"cost ${usage['cost_usd']:.4f}", usage.get("cost_per_pair_usd")
    return cost if not pair else f"{cost}, ${pair:.4f} a kept pair"


def _spared(spared: Mapping[str, int]) -> list[str]:
    if not spared:
        return []
    told = " and ".join(f"{count} {name}" for name, count in spared.items())
    return [f"not needed, since a pair was clear before: {told}"]


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

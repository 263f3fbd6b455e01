"""An evaluation in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def evaluation_summary(result: dict[str, Any], out: Path | None) -> str:
    """What `prefgen evaluate` prints."""
    failed = f", {result['n_failed']} failed" if result["n_failed"] else ""
    lines = [
        f"win rate {_percent(result['win_rate'], result['ci'])} on {result['n']} prompts{failed}: "
        f"{result['wins']} wins, {result['ties']} ties, {result['losses']} losses",
        "at equal length "
        + _percent(result["length_controlled_win_rate"], result["length_controlled_ci"])
        + (f"; at equal style {_estimate(result['style_controlled'])}" if result["style_controlled"] else ""),
        *_chance(result),
        *_human(result.get("human")),
        *_against(result.get("against")),
        *_tax(result.get("alignment_tax")),
    ]
    return "\n".join([*lines, f"written to {out}"] if out else lines)


def _chance(result: dict[str, Any]) -> list[str]:
    lines = []
    if result["significance"]:
        p = result["significance"]["p_value"]
        lines.append(f"p = {p:.2g}: how often chance alone would make as large a difference")
    if result["sequential"]:
        after = result["sequential"]["clear_after"]
        lines.append(f"clear after {after} prompts" if after else "not clear: 50% is not left out")
    if result["power"]:
        power = result["power"]
        lines.append(
            f"so many prompts find a difference of {power['detectable_difference']:.1f} points in four of "
            f"five evaluations; {power['difference']:g} points take {power['prompts_needed']}"
        )
    return lines


def _human(human: dict[str, Any] | None) -> list[str]:
    if human is None:
        return []
    lines = [f"{human['n']} human labels: {human['human_win_rate']:.1f}%"]
    powered, corrected = human["prediction_powered"], human["rogan_gladen"]
    if powered:
        lines[0] += (
            f"; with the judge's help {_estimate(powered)}, worth {powered['effective_labels']:.0f} labels"
        )
    if corrected:
        told = _estimate(corrected) if corrected["ci"] else f"refused ({corrected['refused']})"
        lines.append(f"corrected for the judge's error rates (Rogan-Gladen): {told}")
    return lines


def _against(against: dict[str, Any] | None) -> list[str]:
    if against is None:
        return []
    low, high = against["ci"]
    return [
        f"against {against['annotations']}: {against['difference']:+.1f} points [{low:+.1f}, {high:+.1f}] on "
        f"{against['n']} shared prompts, p = {against['p_value']:.2g}"
    ]


def _tax(tax: dict[str, Any] | None) -> list[str]:
    if tax is None:
        return []
    lines = []
    if tax["log_loss"]:
        loss = tax["log_loss"]
        lines.append(
            f"log-loss on {loss['n']} held-out demonstrations: {loss['baseline']['value']:.4f} → "
            f"{loss['model']['value']:.4f} nats per token ({_change(loss['difference'], '.4f')})"
        )
    for name, task in tax["tasks"].items():
        for metric in ("exact_match", "contains"):
            if task[metric]["difference"]:
                lines.append(
                    f"{name}, {metric.replace('_', ' ')}: {task[metric]['baseline']['value']:.1f}% → "
                    f"{task[metric]['model']['value']:.1f}% ({_change(task[metric]['difference'], '.1f')})"
                )
    return lines


def _change(estimate: dict[str, Any], form: str) -> str:
    low, high = (format(bound, "+" + form) for bound in estimate["ci"])
    return f"{estimate['value']:+{form}} [{low}, {high}]"


def _estimate(estimate: dict[str, Any]) -> str:
    return _percent(estimate["value"], estimate["ci"])


def _percent(value: float, ci: list[float]) -> str:
    return f"{value:.1f}% [{ci[0]:.1f}, {ci[1]:.1f}]"

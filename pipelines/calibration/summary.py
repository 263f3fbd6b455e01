"""What a calibration found, in a few lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.calibration.words import for_target


def calibration_summary(out: Path, found: dict[str, Any]) -> str:
    """What a calibration found, the answer first."""
    people = found["annotators"]["human_agreement"]
    among = "" if people is None else f"; two people agree on {people:.0%}"
    lines = [
        f"{_kept(found)}",
        f"agreement {_interval(found['agreement'], 100)}% of {found['n']} items, "
        f"kappa {_interval(found['kappa'])}{among}; no usable verdict on {found['n_failed']}",
        f"{_position(found['position'])}; longer response preferred {_length(found['length'])}",
    ]
    if found["probability"] is not None:
        told = found["probability"]
        raw = "" if told["ece_raw"] is None else f"{told['ece_raw']:.3f} → "
        lines.append(
            f"calibration error {raw}{told['ece_calibrated']:.3f} (noise {told['ece_noise_floor']:.3f}), "
            f"map: {told['map']['kind']}, T = {told['map']['temperature']:.2f}"
        )
    if found["probability"] is not None and (found["principles"] or found["jurors"]):
        used = found["probability"]["maps"][found["probability"]["map"]["kind"]]
        lines.append(
            f"right where people decide: {used['accuracy']:.0%} with weights fitted to these labels "
            f"(cross-fitted), {_interval(found['agreement_no_ties'], 100)}% without"
        )
    for stage in (found["cascade"] or {}).get("stages", []):
        kept = stage["selective"]["n_kept"] if stage["selective"] else 0
        lines.append(f"{stage['judge']}: {stage['n_reached']} labels reach it, it keeps {kept}")
    return "\n".join([*lines, f"written to {out}: calibration.json, report.html"])


def _kept(found: dict[str, Any]) -> str:
    selective = found["selective"]
    if found["probability"] is None and found["cascade"] is None:
        return "abstains: no label decides between a and b"
    if selective is None:
        said = "abstains: no threshold on the judge's confidence earns the target with these labels"
        items = found["selective_items"]
        if items is None:
            return said
        tested = f"(tested on {len(items['ids'])} labels, one of each prompt)"
        return f"{said}\n{tested}; for {items['target']:.0%}: {for_target(found)}"
    threshold = selective["threshold"]
    which = "that the cascade keeps" if threshold is None else f"with confidence ≥ {threshold:.3f}"
    return (
        f"{selective['target']:.0%} label precision (risk {selective['delta']:.0%}) is earned by the "
        f"{selective['coverage']:.0%} of labels {which}: {selective['n_errors']} errors in "
        f"{selective['n_kept']}"
    )


def _interval(told: dict[str, Any] | None, scale: float = 1.0) -> str:
    if told is None:
        return "undefined"
    low, high = told["ci"]
    places = 0 if scale == 100 else 2
    return f"{scale * told['value']:.{places}f} [{scale * low:.{places}f}, {scale * high:.{places}f}]"


def _position(told: dict[str, Any]) -> str:
    same = f"{told['consistency']:.0%}" if told["consistency"] is not None else "unknown"
    first = f"{told['first_slot_rate']:.0%}" if told["first_slot_rate"] is not None else "unknown"
    return f"same verdict in both orders {same}, first position wins {first}"


def _length(told: dict[str, Any]) -> str:
    if told["difference"] is None:
        return "unknown"
    return f"{told['judge_prefers_longer']:.0%}, by people {told['human_prefers_longer']:.0%}"

"""A finished run in a few lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def run_summary(out: Path, manifest: dict[str, Any]) -> str:
    counts, usage, config = manifest["counts"], manifest["usage"], manifest["config"]
    dropped = ", ".join(f"{name} {count}" for name, count in counts["dropped"].items()) or "none"
    failed = ", ".join(f"{name} {count}" for name, count in counts["failures"].items()) or "none"
    cost = "unknown (no price given)" if usage["cost_usd"] is None else f"${usage['cost_usd']:.4f}"
    return "\n".join(
        [
            f"{counts['prompts']} prompts → {counts['candidates']} candidates → "
            f"{counts['judgments']} judgments → {counts['pairs']} pairs, {counts['kto_rows']} KTO rows",
            f"kept: confidence ≥ {config['min_confidence']:g}; dropped: {dropped}; failed calls: {failed}",
            f"calls: {usage['requests']} paid, {usage['cached_requests']} from the ledger; cost {cost}",
            f"written to {out}: dpo/ kto/ candidates, judgments and scores, report.html, README.md",
        ]
    )

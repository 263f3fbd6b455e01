"""What a constitution says, how two differ, and what becomes of a run's pairs, as text."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from judges.constitution import Constitution
from pipelines.constitution.diff import CHANGES
from pipelines.markup import many, plain
from pipelines.plain_table import plain_table

Found = Mapping[str, Any]
_SHOWN = 20
_WIDTH = 92
_ASKED = {
    "nothing": "no question is new: the run's judgments are weighed anew",
    "principles": "each principle was asked by itself: only the new wordings are asked, of all responses",
    "pairs": "all principles are one question, which is another one now: it is asked of the run's pairs",
}


def constitution_text(constitution: Constitution) -> str:
    lines = [f"{constitution.id}: {constitution.title or 'no title'}", f"hash {constitution.hash}"]
    for item in constitution.principles:
        share = f"{100 * constitution.weights[item.id]:.1f}%"
        lines += _wrapped(f"{item.id} (weight {item.weight:g}, {share}): {item.text}", "  ")
    return "\n".join(lines)


def diff_text(found: Found) -> str:
    return "\n".join([*_changes(found), *(_pairs(found) if "run" in found else ())])


def _changes(found: Found) -> Iterator[str]:
    changes, a, b = found["changes"], found["a"], found["b"]
    yield f"{a['id']} ({a['hash']}) → {b['id']} ({b['hash']})"
    if not any(changes[name] for name in ("added", "removed", "reworded", "reweighted")):
        yield "the same principles"
        return
    shares = changes["shares"]
    for item in changes["added"]:
        yield from _wrapped(f"added {item['id']} ({_share(shares, item['id'])}): {item['text']}", "+ ")
    for item in changes["removed"]:
        yield from _wrapped(f"removed {item['id']} ({_share(shares, item['id'])}): {item['text']}", "- ")
    for item in changes["reworded"]:
        yield from _wrapped(f"reworded {item['id']} ({_share(shares, item['id'])})", "~ ")
        yield from _wrapped(item["before"], "    - ")
        yield from _wrapped(item["after"], "    + ")
    for item in changes["reweighted"]:
        weights = f"weight {item['before']:g} → {item['after']:g}"
        yield f"~ reweighted {item['id']}: {weights} ({_share(shares, item['id'])})"


def _share(shares: Found, name: str) -> str:
    """Of the whole, before and after."""
    told = [shares[name]["before"], shares[name]["after"]]
    return " → ".join("none" if value is None else f"{100 * value:.1f}%" for value in told)


def _pairs(found: Found) -> Iterator[str]:
    yield ""
    yield _ASKED[found["asked"]]
    if "pairs" not in found:
        yield f"it takes {many(found['questions'], 'question')}; those asked before are free"
        return
    counts = found["counts"]
    told = ", ".join(f"{counts[name]:,} {'flip' if name == 'flipped' else name}" for name in CHANGES)
    yield f"{found['pairs_before']:,} pairs → {found['pairs_after']:,}: {told}"
    if found["asked"] == "pairs":
        yield "pairs that would come instead were not looked for"
    for name in CHANGES:
        yield from _listed(name, [row for row in found["pairs"] if row["change"] == name])
    if any(found["failures"].values()):
        failed = ", ".join(f"{status} {count}" for status, count in found["failures"].items())
        yield f"\nfailed: {failed}"
    if found["usage"] is not None:
        usage = found["usage"]
        cost = "cost unknown" if usage["cost_usd"] is None else f"${usage['cost_usd']:.4f}"
        yield (f"\ncalls: {usage['requests']:,} paid, {usage['cached_requests']:,} from the ledger; {cost}")


def _listed(name: str, rows: list[Found]) -> Iterator[str]:
    """The pairs that moved the furthest."""
    if not rows:
        return
    shown = sorted(rows, key=_furthest)[:_SHOWN]
    reasons = Counter((row["reason"] or "").replace("_", " ") for row in rows)
    told = ", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common() if reason)
    some = f"; {_SHOWN} of {len(rows):,} shown, --json has all" if len(rows) > _SHOWN else ""
    yield f"\n{name}{f': {told}' if told else ''}{some}"
    head = ["chosen", "rejected", "why", "before", "after", "moved by", ""]
    cells = [
        [
            row["chosen_id"],
            row["rejected_id"],
            (row["reason"] or ("kept the other way round" if name == "flipped" else "")).replace("_", " "),
            _sure(row["confidence_before"]),
            _sure(row["confidence_after"]),
            row["moved_by"] or "–",
            "" if row["moved"] is None else f"{row['moved']:+.2f}",
        ]
        for row in shown
    ]
    yield from plain_table(head, cells, left=3)


def _furthest(row: Found) -> tuple[bool, float]:
    """Pairs of which the judge thinks otherwise, before those that only gave place to clearer ones."""
    moved = (row["margin_after"] or 0.0) - (row["margin_before"] or 0.0)
    return row["reason"] in ("over_max_pairs", "not_proposed"), -abs(moved)


def _sure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _wrapped(value: str, first: str) -> list[str]:
    line = " ".join(plain(value).split())
    return textwrap.wrap(line, _WIDTH, initial_indent=first, subsequent_indent=" " * (len(first) + 2))

"""Pairs and failures to be read: the clearest, those near the threshold, those that look wrong."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.markup import capital, clipped, folded, how, many, percent, signed, table, text
from pipelines.report.examples import Example
from pipelines.report.look import Look
from pipelines.report.suspicion import KINDS
from pipelines.report.words import failure


def suspicious(look: Look) -> str:
    """Kept pairs that look wrong, the kinds first."""
    found = look.findings.suspicious
    if not found.counts:
        return how(
            "No kept pair looked wrong in any of the ways that are looked for while the report is made."
        )
    rows = [[KINDS[kind], f"{found.counts[kind]:,}"] for kind in KINDS if found.counts[kind]]
    said = how(
        "These pairs were kept. Looking wrong is not being wrong: a judge may change its mind with the order "
        "and still be right on the whole. Read some; prefgen audit looks further."
    )
    groups = "".join(_group(capital(KINDS[kind]), items) for kind, items in found.groups)
    return table("Kept pairs that look wrong", ("why", "pairs"), rows) + said + groups


def examples(look: Look) -> str:
    found = look.findings
    groups = (
        ("The clearest", found.clearest.items),
        ("Kept, nearest to the threshold", found.nearest.items),
        ("Dropped, nearest to the threshold", found.dropped.items),
    )
    shown = "".join(_group(name, items) for name, items in groups if items)
    return shown or '<p class="none">Nothing to show: this run has no pair.</p>'


def _group(name: str, items: Sequence[Example]) -> str:
    """The first one open, the others folded under it."""
    first, *others = map(_article, items)
    more = folded(f"{len(others)} more", "".join(others)) if others else ""
    return f'<h3 class="group">{name}</h3>{first}{more}'


def _article(example: Example) -> str:
    told = f"margin {signed(example.margin)}, confidence {percent(example.confidence)}"
    note = f'<p class="note">{text(capital(example.note))}.</p>' if example.note else ""
    sides = _side("Chosen", example.chosen, " won") + _side("Rejected", example.rejected)
    reasons = "".join(
        f'<div class="reason"><p class="tag">The judge, {asked}</p>{clipped(said)}</div>'
        for asked, said in example.reasons
    )
    prompt = f'<p class="tag">Prompt</p>{clipped(example.prompt)}'
    return f'<article><h4>{told}</h4>{note}{prompt}<div class="grid">{sides}</div>{reasons}</article>'


def _side(name: str, response: str, style: str = "") -> str:
    tag = f'<p class="tag">{name}, {len(response):,} characters</p>'
    return f'<div class="side{style}">{tag}{clipped(response)}</div>'


def failures(look: Look) -> str:
    """By cause, with one reply of each to read."""
    counts = look.counts
    failed = sum(counts["failures"].values())
    if not failed:
        return how("No model call failed.")
    most_first = sorted(counts["failures"].items(), key=lambda item: (-item[1], item[0]))
    rows = [[text(failure(status)), f"{count:,}"] for status, count in most_first]
    said = (
        f"{percent(failed / (failed + counts['judgments']))} of the calls gave no usable answer. They count "
        "for neither side; running the same command with --resume asks again."
    )
    shown = "".join(_failure(look, status, count) for status, count in most_first)
    return f"{table('Failed calls', ('cause', 'calls'), rows)}{how(said)}{shown}"


def _failure(look: Look, status: str, count: int) -> str:
    item = look.findings.failed.get(status)
    if item is None or not item.raw.strip():
        return ""
    told = f"{text(failure(status))}: one of {many(count, 'call')}, of {text(item.provenance.judge)}"
    return f'<article><h4>{told}</h4><p class="tag">What came back</p>{clipped(item.raw)}</article>'

"""Pieces of a page. What models and users wrote goes through `text` or `clipped`, which make it inert."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# Controls but tab and line feed, marks that reorder a line, and halves of surrogate pairs.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_EXCERPT = 420
_LONGEST = 8000
_MOST_COLUMNS = 4


def plain(value: object) -> str:
    """Without terminal codes and control characters."""
    return UNSEEN.sub("", _ANSI.sub("", str(value)))


def text(value: object) -> str:
    """Any text as HTML that shows it."""
    return escape(plain(value))


def clipped(value: str) -> str:
    """A text in full where it is short, else its beginning, which unfolds (up to 8,000 characters)."""
    whole = plain(value).strip()
    if not whole:
        return '<p class="none">(empty)</p>'
    if len(whole) <= _EXCERPT * 1.25:
        return f'<div class="text" dir="auto">{escape(whole)}</div>'
    left_out = f"\n[… {len(whole) - _LONGEST:,} more characters]" if len(whole) > _LONGEST else ""
    return (
        f'<details><summary><div class="text" dir="auto">{escape(_beginning(whole))} …</div>'
        f'<span class="more">show all {len(whole):,} characters</span><span class="less">show less</span>'
        "</summary>"
        f'<div class="text long" dir="auto" tabindex="0">{escape(whole[:_LONGEST])}{left_out}</div></details>'
    )


def _beginning(whole: str) -> str:
    """The first characters, without half a word where words are short enough."""
    cut = whole[:_EXCERPT]
    words = cut.rpartition(" ")[0].rstrip()
    return words if len(words) > 0.8 * _EXCERPT else cut


def number(value: float, places: int = 0) -> str:
    """With thousands marked and a true minus sign; what rounds to zero has no sign."""
    shown = f"{value:,.{places}f}"
    return (shown if shown.strip("-0.,") else shown.lstrip("-")).replace("-", "−")


def give_or_take(shown: str, spread: float | None, places: int = 0) -> str:
    """A number as it is shown with its standard deviation or error, where there is one."""
    return shown if spread is None else f"{shown}\u00a0±\u00a0{number(spread, places)}"


def signed(value: float | None, places: int = 2) -> str:
    """With its sign; a dash where there is none to show."""
    if value is None:
        return "–"
    shown = number(value, places)
    return f"+{shown}" if shown.strip("0.,") and value > 0 else shown


def percent(share: float) -> str:
    """A share as a percentage with at most one decimal; only what is all or nothing is called so."""
    if 0.9995 <= share < 1:
        return "over 99.9%"
    return "under 0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}".removesuffix(".0") + "%"


def many(count: int, noun: str) -> str:
    """1 pair, 2 pairs."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def capital(words: str) -> str:
    """With a capital letter at the beginning."""
    return words[:1].upper() + words[1:]


def how(sentence: str) -> str:
    """A sentence that explains what stands above it."""
    return f'<p class="how">{text(sentence)}</p>'


def folded(summary: str, body: str) -> str:
    """HTML that unfolds under a line of text; on paper it is open."""
    return f'<details class="fold"><summary><span>{text(summary)}</span></summary>{body}</details>'


def beside(*parts: str) -> str:
    """Parts next to each other where there is room."""
    return f'<div class="grid">{"".join(parts)}</div>'


def exactly(share: float) -> str:
    """A share that somebody chose, as a percentage."""
    return f"{100 * share:.10g}%"


def facts(values: Mapping[str, str], style: str = "facts") -> str:
    """Names and values; the values are HTML."""
    rows = (f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in values.items())
    return f'<dl class="{style}">{"".join(rows)}</dl>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, short: bool = False) -> str:
    """The cells are HTML; the first column names the row, the others hold numbers. On a phone the rows of a
    table of many columns become lists, unless its cells are `short`."""
    top = "".join(f'<th scope="col"{_number(place)}>{name}</th>' for place, name in enumerate(head))
    body = "".join(f"<tr>{''.join(map(_cell, range(len(row)), row, head))}</tr>" for row in rows)
    wide = ' class="wide"' if len(head) > _MOST_COLUMNS and not short else ""
    return (
        f"<table{wide}><caption>{caption}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    )


def _number(place: int) -> str:
    return ' class="number"' if place else ""


def _cell(place: int, value: str, name: str) -> str:
    return f'<td class="number" data-name="{name}">{value}</td>' if place else f'<th scope="row">{value}</th>'


def figure(title: str, svg: str, how: str, names: Sequence[str] = ()) -> str:
    """A chart under its heading, with a sentence on how to read it and, for several series, a legend."""
    swatch = '<svg viewBox="0 0 10 10" aria-hidden="true"><rect class="bar{}" width="10" height="10"/></svg>'
    items = "".join(f"<li>{swatch.format(place)}{name}</li>" for place, name in enumerate(names))
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    return f"<figure><h3>{title}</h3>{legend}{svg}<figcaption>{how}</figcaption></figure>"

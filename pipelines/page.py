"""The one kind of page: a single file that needs no network and runs no script."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from string import Template

from pipelines.markup import how, text
from prefgen import __version__

_TEMPLATES = importlib.resources.files("pipelines") / "templates"


def page(kind: str, title: str, lead: str, top: str, sections: Iterable[str], footer: str) -> str:
    """The whole page. All parts are HTML; `top` stands under the lead, `sections` are of `section`."""
    return Template(_read("page.html")).substitute(
        kind=kind,
        title=title,
        style=_read("report.css"),
        lead=lead,
        top=top,
        sections="\n".join(filter(None, sections)),
        version=text(__version__),
        footer=footer,
    )


def section(heading: str, body: str) -> str:
    """A part of the page under a heading; nothing without a body."""
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>" if body else ""


def outstanding(sentences: Iterable[str]) -> str:
    """What somebody in a hurry should read, for the top of a page."""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    body = f'<ul class="said">{items}</ul>' if items else how("Nothing.")
    return f'<div class="outstanding"><h2>What stands out</h2>{body}</div>'


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")

"""The one kind of page: a single file that needs no network and runs no script."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from string import Template

from pipelines.markup import text
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


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")

"""Markdown of models and users as HTML that does nothing: no tag of theirs, no link, no image, no address."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from pipelines.markup import plain

_LONGEST = 20_000
"""Longer texts are shown as they were written: parsing takes time, and a page has to come at once."""
_MOST_BRACKETS = 2000
"""So are texts with more than this: each is sought a partner for."""


def rendered(value: str) -> str:
    """A text as people should see it, and as it was written where that is not the same."""
    text = plain(value)
    if not text.strip():
        return '<p class="none">(empty)</p>'
    if len(text) > _LONGEST or text.count("[") > _MOST_BRACKETS:
        return f'<div class="text" dir="auto">{escape(text)}</div>'
    html = _parser().render(text)
    if html.strip() == f"<p>{escape(text.strip())}</p>":
        return f'<div class="markdown" dir="auto">{html}</div>'
    return (
        f'<div class="markdown" dir="auto">{html}</div>'
        '<details class="source"><summary><span>as it was written</span></summary>'
        f'<div class="text" dir="auto">{escape(text)}</div></details>'
    )


@cache
def _parser() -> MarkdownIt:
    """CommonMark with tables; a link's address is shown beside its text, and an image's in its place."""
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 100}, renderer_cls=_Inert)
    # A reference definition would be read and not shown.
    return parser.enable(["table", "strikethrough"]).disable(["reference", "html_block", "html_inline"])


class _Inert(RendererHTML):
    """markdown-it finds these by their names."""

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return '<span class="link">'

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        # Links do not nest.
        opening = next(token for token in reversed(tokens[:idx]) if token.type == "link_open")
        return f"</span> {_address(opening.attrGet('href'))}"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        return f'<span class="link">image: {escape(token.content)}</span> {_address(token.attrGet("src"))}'

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Without the class that names the language: nothing here styles by what a model wrote."""
        return f"<pre><code>{escape(tokens[idx].content)}</code></pre>\n"


def _address(url: Any) -> str:
    return f'<span class="address">({escape(str(url))})</span>'

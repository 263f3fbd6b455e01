"""Reading a page that was made: what a browser would make of it, and text that wants to do harm."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "path", "rect", "link", "input", "br", "hr"}
HOSTILE = (
    "<script>alert(1)</script></style></title><img src=x onerror=alert(2)>"
    "\x1b[31mred\x1b[0m\x1b]8;;http://evil.example\x07link\x00\x9b\u202e &amp; \"' $title ${style} {{x}}"
)


class Page(HTMLParser):
    """What a browser would make of a page: its tags, attributes and visible text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(source)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data.strip())

    @property
    def words(self) -> str:
        return " ".join(part.replace("\u00a0", " ") for part in self.text if part)

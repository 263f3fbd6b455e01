"""The documentation site: built without a warning, whole without a network, its links and anchors alive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[1]
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
_CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Html(HTMLParser):
    """`links`: where a reader may go; `fetched`: what a browser loads by itself; `anchors`: ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and "canonical" not in found.get("rel", ""):
            self.fetched.append(found["href"])
        if found.get(_FETCHED.get(tag, "")):
            self.fetched.append(found[_FETCHED[tag]])
        self.fetched += [part.split()[0] for part in found.get("srcset", "").split(",") if part.strip()]


@cache
def read(page: Path) -> Html:
    return Html(page.read_text("utf-8"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return out


def pages(site: Path) -> list[Path]:
    """Those that people see; 404.html names its files from the root of a server."""
    return [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]


def inside(links: list[str]) -> Iterator[str]:
    return (link for link in links if not urlsplit(link).scheme and not link.startswith("//"))


def test_every_page_is_in_the_navigation(site: Path) -> None:
    told = (ROOT / "mkdocs.yml").read_text("utf-8")
    sources = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sources == set(re.findall(r"[\w/]+\.md", told))
    assert {str(page.relative_to(site)) for page in pages(site)} == {
        name.replace(".md", ".html") for name in sources
    }
    assert len(yaml.safe_load(told)["nav"]) <= 12


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in [*pages(site), site / "404.html"]:
        assert read(page).fetched
        assert list(inside(read(page).fetched)) == read(page).fetched, page
    for sheet in site.rglob("*.css"):
        for found in _CSS_URL.findall(sheet.read_text("utf-8")):
            assert not re.match(r"(https?:)?//", "".join(found)), sheet


def test_what_pages_fetch_is_there(site: Path) -> None:
    for page in pages(site):
        for link in read(page).fetched:
            assert (page.parent / unquote(urlsplit(link).path)).is_file(), (page, link)


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    for page in pages(site):
        for link in inside(read(page).links):
            parts = urlsplit(link)
            target = (page.parent / unquote(parts.path)).resolve() if parts.path not in ("", ".") else page
            assert target.is_file(), f"{page.name}: {link} leads nowhere"
            assert not parts.fragment or unquote(parts.fragment) in read(target).anchors, (page.name, link)


def test_links_out_are_sane(site: Path) -> None:
    """`pytest tests/test_site.py -k sane -s` lists them; whether they answer is not asked."""
    out = sorted({link for page in pages(site) for link in read(page).links if urlsplit(link).scheme})
    print("\n".join(out))
    assert out
    for link in out:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.netloc), link
        assert not re.search(r"\s|//", parts.path), link


def test_links_of_the_readme_lead_somewhere() -> None:
    """On the page of the repository: files of the tree, and the headings of its pages."""
    for page in map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md", "data/README.md")):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            parts = urlsplit(link)
            if parts.scheme or not parts.path:
                continue
            target = page.parent / parts.path
            assert target.exists(), f"{page.name}: {link}"
            if parts.fragment:
                headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
                assert parts.fragment in {slug(heading) for heading in headings}, f"{page.name}: {link}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_search_works_from_the_disk_and_nothing_overflows(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    faults: list[str] = []
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        phone = browser.new_page(viewport={"width": 390, "height": 844})
        desk = browser.new_page(viewport={"width": 1280, "height": 900})
        for page in (phone, desk):
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: faults.append(str(error)))
        for name in ("contract", "comparison", "scale", "stages"):
            phone.goto((site / f"{name}.html").as_uri())
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert phone.evaluate(wide) == 0, name
        desk.goto((site / "trust.html").as_uri())
        assert desk.locator(".md-code__button").count()
        desk.locator(".md-search__input").press_sequentially("knockout")
        desk.locator(".md-search-result__link").first.click()
        desk.wait_for_url("**/judging.html*")
        browser.close()
    assert not faults
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data", "blob"}

"""The labelling pages without a browser: who is let in, what a post does, and that texts are inert."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

import httpx
import pytest
from labelling import EVIL, HOSTILE_TEXTS, pairs_file
from page import Page

from judges.constitution import load_constitution
from pipelines.labelling.app import make_app
from pipelines.labelling.config import LabelConfig
from pipelines.labelling.export import lines
from pipelines.labelling.guard import known_host
from pipelines.labelling.item import Item, swapped
from pipelines.labelling.markdown import rendered
from pipelines.labelling.store import Store
from prefgen.messages import Message, user

TOKEN, SIDES = "the-token", "secret"
AT = f"http://127.0.0.1:8765/{TOKEN}/"


@asynccontextmanager
async def opened(
    folder: Path, *items: Item, **options: object
) -> AsyncIterator[tuple[httpx.AsyncClient, Store]]:
    """The app on one thread, as uvicorn runs it."""
    source = pairs_file(folder / "p.jsonl", 1)
    config = LabelConfig(**({"source": source, "out": folder / "l.jsonl"} | options))  # type: ignore[arg-type]
    pairs = items or [Item(f"i{n}", user(f"p{n}"), f"text a{n}", f"text b{n}") for n in range(3)]
    with Store(config.store, config.overlap) as store:
        store.add(pairs, {}, {"seed": 0, "sides": SIDES, "promise": {"expected": None, "n_pairs": 3}})
        app = make_app(store, config, load_constitution("support-tone"), TOKEN)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url=AT) as client,
        ):
            yield client, store


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Store]]:
    async with opened(tmp_path) as found:
        yield found


async def test_only_the_whole_address_lets_in(client: tuple[httpx.AsyncClient, Store]) -> None:
    browser, store = client
    for path in (
        "/",
        "/wrong/?annotator=anna",
        "/the-tokem/labels.jsonl",
        "//",
        "/?x",
        f"/{TOKEN[:-1]}/label.css",
    ):
        answer = await browser.get(f"http://127.0.0.1:8765{path}")
        assert answer.status_code == 403, path
        assert "script" not in answer.text
        assert TOKEN not in answer.text
    form = {"item": "i0", "choice": "a"}
    assert (
        await browser.post("http://127.0.0.1:8765/wrong/answer?annotator=anna", data=form)
    ).status_code == 403
    assert store.given() == []
    assert (await browser.post(f"{AT}answer?annotator=anna", data=form)).status_code == 303
    assert len(store.given()) == 1


async def test_a_name_that_was_pointed_here_is_refused(client: tuple[httpx.AsyncClient, Store]) -> None:
    browser, _ = client
    assert (
        await browser.get(f"{AT}?annotator=anna", headers={"host": "evil.example:8765"})
    ).status_code == 421
    assert (await browser.get(f"{AT}?annotator=anna", headers={"host": "localhost:8765"})).status_code == 200


@pytest.mark.parametrize(
    ("header", "bound", "known"),
    [
        ("127.0.0.1:8765", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("[::1]:80", "::1", True),
        ("LOCALHOST.:1", "127.0.0.1", True),
        ("evil.example:8765", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("192.168.0.5:8765", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("192.168.0.5:8765", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        (f"{socket.gethostname()}:8765", "0.0.0.0", True),
        (f"{socket.gethostname()}:8765", "127.0.0.1", socket.gethostname() == "localhost"),
        ("box.local:1", "box.local", True),
    ],
)
def test_hosts(header: str, bound: str, known: bool) -> None:
    assert known_host(header, bound) is known


async def test_a_form_of_another_site_is_refused(client: tuple[httpx.AsyncClient, Store]) -> None:
    browser, store = client
    answer = await browser.post(
        f"{AT}answer?annotator=anna",
        data={"item": "i0", "choice": "a"},
        headers={"sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 403
    assert store.given() == []
    assert (await browser.get(f"{AT}answer?annotator=anna")).status_code == 404


async def test_every_answer_forbids_what_a_page_does_not_need(
    client: tuple[httpx.AsyncClient, Store],
) -> None:
    browser, _ = client
    for path in (
        "",
        "?annotator=anna",
        "label.css",
        "label.js",
        "done?annotator=anna",
        "labels.jsonl",
        "nothing",
    ):
        answer = await browser.get(AT + path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert TOKEN not in answer.text
        assert not re.search(r"(?:src|href|action)=\"(?:https?:|//)", answer.text)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"item": "i0", "choice": "c"}, 400),
        ({"item": "none", "choice": "a"}, 400),
        ({"choice": "a"}, 400),
        ({"item": "i0"}, 400),
        ({"item": "i0", "choice": "a", "reason": "x" * 70_000}, 413),
        ({f"f{n}": "x" for n in range(30)}, 400),
    ],
)
async def test_what_is_no_answer_is_refused(
    client: tuple[httpx.AsyncClient, Store], form: dict[str, str], code: int
) -> None:
    browser, store = client
    assert (await browser.post(f"{AT}answer?annotator=anna", data=form)).status_code == code
    assert (await browser.post(f"{AT}answer", data={"item": "i0", "choice": "a"})).status_code == 400
    assert (await browser.post(f"{AT}answer?annotator=anna", content=b"\xff\xfe")).status_code == 400
    assert store.given() == []


async def test_what_is_kept_is_what_was_shown_on_that_side(client: tuple[httpx.AsyncClient, Store]) -> None:
    """A is pressed each time; the label is that of the response under A, read off the page."""
    browser, store = client
    shown = {}
    while (page := await browser.get(f"{AT}?annotator=anna")).status_code == 200:
        first = re.search(r'id="A".*?text ([ab])(\d)', page.text, re.DOTALL)
        assert first is not None
        item = f"i{first[2]}"
        shown[item] = first[1]
        await browser.post(
            f"{AT}answer?annotator=anna", data={"item": item, "choice": "a", "reason": " why "}
        )
    assert page.headers["location"] == "done?annotator=anna"
    assert {told.item: told.answer for told in store.given()} == shown
    assert shown == {f"i{n}": "b" if swapped(SIDES, "anna", f"i{n}") else "a" for n in range(3)}
    assert len(set(shown.values())) == 2
    assert {told.reason for told in store.given()} == {"why"}


async def test_a_full_disk_is_told_by_what_was_asked(
    client: tuple[httpx.AsyncClient, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, store = client

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    for name in ("next", "answer"):
        monkeypatch.setattr(store, name, full)
    page = await browser.get(f"{AT}?annotator=anna")
    sent = await browser.post(f"{AT}answer?annotator=anna", data={"item": "i0", "choice": "a"})
    assert (page.status_code, sent.status_code) == (503, 503)
    assert "What was kept before is kept" in page.text
    assert "The answer could not be kept" in sent.text


async def test_a_second_tab_is_told_and_undo_shows_what_was_said(
    client: tuple[httpx.AsyncClient, Store],
) -> None:
    browser, store = client
    item = store.next("anna")
    assert item is not None
    form = {"item": item.id, "choice": "a", "reason": "because <b>"}
    assert "said" not in (await browser.post(f"{AT}answer?annotator=anna", data=form)).headers["location"]
    second = await browser.post(f"{AT}answer?annotator=anna", data=form | {"choice": "b"})
    assert "first answer is kept" in (await browser.get(AT + second.headers["location"])).text
    undone = await browser.post(f"{AT}undo?annotator=anna", data={"seq": str(store.last("anna"))})
    page = (await browser.get(AT + undone.headers["location"])).text
    assert "You had said: A is better." in page
    assert "because &lt;b&gt;</textarea>" in page
    again = await browser.post(f"{AT}undo?annotator=anna", data={"seq": "1"})
    assert "Nothing was taken back" in (await browser.get(AT + again.headers["location"])).text
    for seq in ("", "x", "9" * 40, "²"):
        assert (await browser.post(f"{AT}undo?annotator=anna", data={"seq": seq})).status_code == 303


async def test_the_page_shows_principles_progress_and_roles(tmp_path: Path) -> None:
    prompt = (
        Message("system", "Be **kind**."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        *user("?"),
    )
    async with opened(tmp_path, Item("x", prompt, "one", "two"), Item("y", user("q"), "one", "two")) as (
        client,
        _,
    ):
        page = Page((await client.get(f"{AT}?annotator=Zoë")).text)
        for words in ("Pair 1 of 2", "Zoë", "system", "assistant", "principles", "A is better", "Skip"):
            assert words in page.words
        first = load_constitution("support-tone").principles[0].text
        assert first[:30] in page.words
        # Nothing tells which response is whose.
        assert "margin" not in page.source
        assert ("lang", "en") in page.attributes
        assert {value for name, value in page.attributes if name == "data-key"} == set("abtsur")


async def test_only_named_annotators_where_some_are_named(tmp_path: Path) -> None:
    async with opened(tmp_path, annotators=("anna,ben",)) as (client, _):
        chooser = (await client.get(AT)).text
        assert 'value="anna"' in chooser
        assert 'value="ben"' in chooser
        assert (await client.get(f"{AT}?annotator=ben")).status_code == 200
        assert (await client.get(f"{AT}?annotator=carl")).status_code == 403
    async with opened(tmp_path) as (client, _):
        assert 'name="annotator"' in (await client.get(AT)).text
        for name in ("adjudicator", "%20", "%00", "x" * 65, "%23x"):
            assert (await client.get(f"{AT}?annotator={name}")).status_code in (400, 403), name


async def test_adjudication_shows_what_was_said_without_names_and_on_the_sides_shown(tmp_path: Path) -> None:
    async with opened(tmp_path, overlap=2, adjudicate=True) as (client, store):
        store.answer("anna", "i1", "a", "<i>politer</i>")
        store.answer("ben", "i1", "b", "shorter")
        store.answer("anna", "i0", "a")
        store.answer("ben", "i0", "a")
        page = (await client.get(AT)).text
        seen = Page(page).words
        assert "<i>politer</i>" in seen
        for name in ("anna", "ben"):
            assert name not in page
        swap = swapped(SIDES, "adjudicator", "i1")
        assert f"{'B' if swap else 'A'} is better: <i>politer" in seen
        turned = sum(swapped(SIDES, name, "i1") != swap for name in ("anna", "ben"))
        assert seen.count("the other way round for this person") == turned
        await client.post(f"{AT}answer", data={"item": "i1", "choice": "a"})
        assert (await client.get(AT)).headers["location"].startswith("done")
        done = (await client.get(f"{AT}done")).text
        assert "Two people agree on 50% of 2 pairs" in done
        rows = [json.loads(line) for line in lines(store)]
    assert rows[-1]["adjudicated"] is True
    assert rows[-1]["label"] == ("b" if swap else "a")


async def test_the_done_page_has_the_audit_only_when_all_is_done_and_never_the_labels(tmp_path: Path) -> None:
    pairs = (Item(f"i{n}", user("p"), "x", "y", margin=1.0) for n in range(2))
    async with opened(tmp_path, *pairs, source=tmp_path, audit=2) as (client, store):
        store.answer("anna", "i0", "a")
        assert "emitted pairs" not in (await client.get(f"{AT}done?annotator=anna")).text
        store.answer("anna", "i1", "b")
        assert "Audit of 2 of 3 emitted pairs" in (await client.get(f"{AT}done?annotator=anna")).text
        # What others said is not for who still labels.
        assert (await client.get(f"{AT}labels.jsonl")).status_code == 404
        store.answer("ben", "i1", "skip")
        assert "skipped again" in (await client.get(f"{AT}done?annotator=ben")).text
        assert (await client.post(f"{AT}again?annotator=ben")).status_code == 303
        assert "skipped again" not in (await client.get(f"{AT}done?annotator=ben")).text


async def test_the_labels_file_is_kept_up_to_date(
    client: tuple[httpx.AsyncClient, Store], tmp_path: Path
) -> None:
    browser, _ = client
    await browser.post(f"{AT}answer?annotator=anna", data={"item": "i0", "choice": "tie"})
    for _ in range(1000):
        if (tmp_path / "l.jsonl").exists():
            break
        await asyncio.sleep(0.02)
    assert json.loads((tmp_path / "l.jsonl").read_text())["label"] == "tie"


@pytest.mark.parametrize("value", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_markdown_is_inert(value: str) -> None:
    """No tag but text's own, no attribute that loads or runs, and what was written is there to read."""
    html = rendered(value)
    page = Page(html)
    assert set(page.tags) <= {
        "br", "hr", "div", "p", "span", "strong", "s", "code", "pre",
        "details", "blockquote", "ul", "summary", "em", "ol", "li", "table", "thead", "tbody", "tr", "th",
        "td", *(f"h{n}" for n in range(1, 7)),
    }  # fmt: skip
    assert {name for name, _ in page.attributes} <= {"class", "dir", "start"}
    for sign in ("\x1b", "\x9b", "\u202e", "\x00", "\x07"):
        assert sign not in html
    if EVIL in value:
        assert EVIL in unescape(html)


def test_markdown_is_shown_as_such() -> None:
    html = rendered("**bold** and `code`\nnext line\n\n- one\n- two\n\n[site](https://example.org/a?b=1&c=2)")
    assert "<strong>bold</strong> and <code>code</code><br />" in html
    assert "<li>one</li>" in html
    assert (
        '<span class="link">site</span> <span class="address">(https://example.org/a?b=1&amp;c=2)</span>'
        in html
    )
    assert "as it was written" in html
    assert "as it was written" not in rendered("Just a sentence.")
    assert "(empty)" in rendered(" \x00 ")


@pytest.mark.parametrize("value", ["[" * 2001, "*a* " * 5001, "*a* " + "b" * 20_000])
def test_what_would_keep_the_page_waiting_is_shown_as_it_was_written(value: str) -> None:
    assert rendered(value) == f'<div class="text" dir="auto">{value}</div>'
    assert "markdown" in rendered(value[:1000])

"""What models, users and file names say is shown by every page and card, and does nothing there.

The pages of calibrate, train and generate have such a test beside their others; here are the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from page import HOSTILE, Page
from reporting import a_loops_manifest
from running import FAKES, Runner, some_prompts, write_prompts

from pipelines.audit import page as audit_page
from pipelines.card import code, inert, write_card
from pipelines.rlaif import page as loop_page
from prefgen.completion import CompletionRequest
from prefgen.models.scripted import ScriptedModel, open_scripted
from prefgen.run import RunDirectory

_OWN_LINK = "rounds/1/report.html"


def assert_inert(source: str) -> None:
    """Parsed as a browser would: no tag, attribute or address that is not ours; the text is there to read."""
    page = Page(source)
    assert {"script", "img", "iframe", "object", "base", "form", "input"}.isdisjoint(page.tags)
    assert page.tags.count("style") == 1
    assert page.tags.count("title") == 1 or "svg" in page.tags  # Charts have titles of their own.
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        if name in ("href", "src", "action"):
            assert value == _OWN_LINK, value
    assert "alert(1)" in page.words
    for sign in ("\x1b", "\x9b", "\u202e", "\x00"):
        assert sign not in source


def test_an_audit_of_hostile_texts_is_inert(
    tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(request: CompletionRequest, sample: int) -> str:
        return f"{HOSTILE} {'because ' * sample}{request.messages[-1].content}"

    async def opened(text: str, *_: Any) -> Any:
        return open_scripted("judge") if "judge" in text else ScriptedModel(write, f"scripted/{HOSTILE}")

    monkeypatch.setattr("pipelines.roles.open_model", opened)
    texts = [f"{HOSTILE} {n} a b c d e f g h i j {n * 7919}" for n in range(12)]
    prompts = write_prompts(
        tmp_path / "p.jsonl", ({"id": f"<b>{n}</b>", "prompt": t} for n, t in enumerate(texts))
    )
    run, held_out = tmp_path / "<img src=x onerror=alert(1)>", tmp_path / "<script>alert(1)<.jsonl"
    write_prompts(held_out, ({"prompt": text} for text in texts[:5]))
    assert prefgen("generate", prompts, *FAKES, "--out", run, "--min-confidence", "0.5").code == 0
    ran = prefgen("audit", run, "--eval-file", held_out)
    assert ran.code == 0, ran.err
    assert_inert((run / "audit" / "audit.html").read_text())


def test_revisions_of_hostile_texts_are_inert(
    tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opened(text: str, *_: Any) -> Any:
        return ScriptedModel(lambda request, sample: f"{HOSTILE} {len(request.messages[-1].content)}", text)

    monkeypatch.setattr("pipelines.roles.open_model", opened)
    prompts, out = write_prompts(tmp_path / "p.jsonl", [{"prompt": HOSTILE}]), tmp_path / "run"
    ran = prefgen("revise", prompts, "--policy", "scripted/writer", "--rounds", 1, "--out", out)
    assert ran.code == 0, ran.err
    assert_inert((out / "report.html").read_text())


def test_an_evaluation_of_hostile_texts_is_inert(tmp_path: Path, prefgen: Runner) -> None:
    rows = [
        {"id": n, "prompt": f"{HOSTILE} {n}", "preference": None if n == 2 else n / 7, "length_model": 9,
         "length_baseline": n, "response_model": HOSTILE * 20, "response_baseline": HOSTILE,
         "failure": HOSTILE}
        for n in range(6)
    ]  # fmt: skip
    annotations, out = write_prompts(tmp_path / "a.jsonl", rows), tmp_path / "e"
    ran = prefgen("evaluate", "--annotations", annotations, "--out", out)
    assert ran.code == 0, ran.err
    assert_inert((out / "report.html").read_text())


def test_every_text_of_an_audit_page_is_escaped(tmp_path: Path) -> None:
    ci = [0.1, 0.9]
    share = {"value": 0.5, "ci": ci}
    effect = {"chosen": 1, "rejected": 2, "d": share, "more": share}
    row = {"probability": 0.1, "margin": 1.0, "prompt": HOSTILE, "chosen": HOSTILE, "rejected": HOSTILE * 40}
    item = {"text": HOSTILE, "n_found_in": 1, "found_in": {HOSTILE: 0.7}}
    found = {
        "n_pairs": 1,
        "run": HOSTILE,
        "warnings": [HOSTILE],
        "surface": {"effects": {HOSTILE: effect}, "alone": None},
        "label_noise": {
            "agreement": share, "auc": 0.8, "learnable": True, "flagged": 1, "flagged_share": 1.0,
            "most_suspicious": [row],
        },
        "contamination": {HOSTILE: {"n_items": 1, "contaminated": 1, "share": 1.0, "items": [item]}},
        "duplicates": {
            "n_prompts": 1, "n_groups": 1, "n_in_groups": 1, "straddling": [],
            "largest": [{"prompts": [{"prompt": HOSTILE}], "size": 2}],
            "boilerplate": {
                "n_answers": 1, "n_pairs": 1, "most_repeated": [{"chosen": HOSTILE, "prompts": 2}],
            },
        },
        "balance": {
            "policies": {HOSTILE: {"candidates": 1, "chosen": 1, "rejected": 0}},
            "dropped": {HOSTILE: 1}, "failures": {HOSTILE: 1}, "position": None, "cycles": None,
        },
        "probes": {
            "judge": HOSTILE,
            "kinds": {next(iter(audit_page._KINDS)): {"n": 1, "prefers_variant": 0.5, "ci": ci, "failed": 0}},
        },
    }  # fmt: skip
    audit_page.write_page(RunDirectory(tmp_path), found)
    assert_inert((tmp_path / "audit.html").read_text())


def test_every_text_of_a_loops_page_is_escaped(tmp_path: Path) -> None:
    manifest = a_loops_manifest(HOSTILE)
    for item in manifest["rounds"]:
        item["round"] = item["training"]["steps"] = HOSTILE
        for alarm in item["alarms"]:
            alarm["round"] = HOSTILE
    loop_page.write_page(RunDirectory(tmp_path), manifest)
    assert_inert((tmp_path / "report.html").read_text())


def test_a_run_that_somebody_else_changed_is_shown_as_inertly(tmp_path: Path, prefgen: Runner) -> None:
    """What prefgen writes from a list of its own may be anything in a directory that was sent."""
    out = tmp_path / "run"
    made = ("generate", some_prompts(tmp_path / "p.jsonl"), *FAKES, "--min-confidence", 0.5, "--out", out)
    assert prefgen(*made).code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["config"]["judging"] = HOSTILE
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert prefgen("report", out).code == 0
    assert_inert((out / "report.html").read_text())


class Card:
    """A dataset card as the Hub reads it: its header, and its body as HTML."""

    def __init__(self, text: str) -> None:
        _, header, body = text.split("---\n", 2)
        page = Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(body))
        self.text, self.lines = text, len(body.splitlines())
        self.header = yaml.safe_load(header)
        self.tags = {tag: page.tags.count(tag) for tag in page.tags if tag != "code"}
        self.addresses = [value for name, value in page.attributes if name in ("href", "src")]


CARD_TRICKS = (
    HOSTILE,
    "x\n---\nlicense: mit\n---\n# Owned\n",
    "a | b |\n|---|\n| c `|` d",
    "[click](javascript:alert(1)) ![i](http://evil.example/x.png) <http://evil.example>",
    "``` \n<script>alert(1)</script>\n```",
    "`<img src=x onerror=alert(1)>`",
    "{prompts} {0} {config.__class__}",
    "&lt;script&gt; *bold* _it_ # head",
)


def test_a_dataset_card_shows_hostile_names_and_nothing_more(tmp_path: Path, prefgen: Runner) -> None:
    out = tmp_path / "run"
    assert prefgen("generate", some_prompts(tmp_path / "p.jsonl"), *FAKES, "--out", out).code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    usual = Card((out / "README.md").read_text())
    for trick in CARD_TRICKS:
        manifest["config"] |= {"prompts": trick, "policy": [trick], "constitution": trick}
        manifest["judge"] = trick
        write_card(RunDirectory(out), manifest)
        card = Card((out / "README.md").read_text())
        assert card.header == usual.header
        assert card.lines == usual.lines
        assert card.tags == usual.tags
        assert card.addresses == []
        assert not [sign for sign in "\x1b\x9b\x00\u202e" if sign in card.text]


@pytest.mark.parametrize("trick", CARD_TRICKS)
def test_inert_markdown_reads_as_the_text_itself(trick: str) -> None:
    render = MarkdownIt("commonmark", {"html": True}).render
    shown = " ".join(Page(render(f"a {inert(trick)} z")).words.split())
    visible = " ".join("".join(sign for sign in trick if sign >= " " or sign == "\n").split())
    if "\x1b" not in trick:
        assert shown == f"a {visible} z"
    assert code("`|` x") == "`'\\|' x`"
    assert code("") == "`-`"

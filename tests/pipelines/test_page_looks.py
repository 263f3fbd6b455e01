"""Pages as a browser lays them out, and their colours: no scrolling sideways, and nothing too pale."""

from __future__ import annotations

import importlib.resources
import itertools
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from reporting import a_loops_manifest, a_training_report, jury, publish

from pipelines.rlaif import page as loop_page
from pipelines.training_report.page import training_page
from prefgen.run import RunDirectory

CSS = (importlib.resources.files("pipelines") / "templates" / "report.css").read_text(encoding="utf-8")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXT = ("ink", "soft", "accent", "mark")
SHAPES = ("accent", "second", "third", "fourth", "mark")
SCHEMES = ("light", "dark")


def colours(scheme: str) -> dict[str, tuple[float, ...]]:
    """The page's colours by name, as linear RGB."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    found = dict(re.findall(r"--(\w+): (#\w+);", blocks[SCHEMES.index(scheme)]))
    return {name: linear(value) for name, value in found.items()}


def linear(colour: str) -> tuple[float, ...]:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
    return tuple(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2.2."""
    light = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


def test_black_on_white_is_21_to_1() -> None:
    assert contrast(linear("#000"), linear("#ffffff")) == pytest.approx(21)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_stand_out_from_what_is_behind_them(scheme: str) -> None:
    told = colours(scheme)
    for name, behind in itertools.product(TEXT, ("paper", "panel")):
        assert contrast(told[name], told[behind]) >= 4.5, (name, behind)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shapes_in_charts_stand_out_from_the_paper(scheme: str) -> None:
    told = colours(scheme)
    for name in SHAPES:
        assert contrast(told[name], told["paper"]) >= 3, name


def test_every_colour_of_a_text_is_one_of_those() -> None:
    used = set(re.findall(r"(?<![-\w])(?:color|fill): var\(--(\w+)\)", CSS))
    shapes = {"second", "third", "fourth"}
    assert used <= {*TEXT, *shapes}
    for name in shapes:
        assert re.findall(rf"([^\n]*)(?<![-\w])(?:color|fill): var\(--{name}\)", CSS)[0].startswith(".bar")


# ----------------------------------------------------------------------------------------------- in a browser


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


def a_run(folder: Path) -> Path:
    judges, principles = (
        ("vllm/" + "long-name-" * 6, "openai/two"),
        ("kind", "true", "brief", "calm", "clear", "safe"),
    )
    odds = [
        (judge, principle, 3.0 - place, 2.0 + place)
        for judge in judges
        for place, principle in enumerate(principles)
    ]
    made = []
    for number in range(6):
        prompt, sampled, results = jury(f"p{number}", odds)
        prompt.columns.update({"topic": ("a rather long topic of it", "short")[number % 2]})
        made.append((prompt, sampled, results))
    publish(folder, made, judge=judges)
    return folder / "report.html"


def a_training(folder: Path) -> Path:
    config = {"model": "m" * 90, "data": "d", "out": str(folder)}
    report = a_training_report(stage="dpo", config=config, counts={"train_used": 4}, warnings=["w" * 200])
    lines = [
        {"split": split, "step": step, "loss": 1.0 / (step + 1), "rewards/margins": -1e6 * step}
        for split in ("train", "eval")
        for step in range(4)
    ]
    path = folder / "training.html"
    path.write_text(training_page(report, lines, []), encoding="utf-8")
    return path


def a_loop(folder: Path) -> Path:
    loop_page.write_page(RunDirectory(folder), a_loops_manifest("a name with some words in it"))
    return folder / "report.html"


_TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter(
    (item) => (item.scrollWidth > item.clientWidth + 1 && getComputedStyle(item).overflowX === "auto")
    || item.getBoundingClientRect().right > document.documentElement.clientWidth + 1
).map((item) => item.outerHTML.slice(0, 80))"""
"""What scrolls by itself, or sticks out."""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_nothing_is_wider_than_the_screen_and_paper_shows_what_is_folded(tmp_path: Path) -> None:
    pages = {"run": a_run(tmp_path / "run"), "training": a_training(tmp_path), "loop": a_loop(tmp_path)}
    with chromium() as browser:
        view = browser.new_page()
        for name, path in pages.items():
            for width in (390, 1280):
                view.set_viewport_size({"width": width, "height": 900})
                view.goto(path.as_uri())
                scrolled, shown = view.evaluate(
                    "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
                )
                assert scrolled <= shown, (name, width)
                assert view.evaluate(_TOO_WIDE) == [], (name, width)
        view.goto(pages["run"].as_uri())
        folded = view.locator("details.fold .facts").last
        assert not folded.is_visible()
        view.emulate_media(media="print")
        assert folded.is_visible()
        assert view.locator("figure").first.evaluate("item => getComputedStyle(item).breakInside") == "avoid"
        view.emulate_media(media="screen", color_scheme="dark")
        dark = view.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == "rgb(20, 24, 28)"

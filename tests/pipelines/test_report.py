"""report.html: its numbers, and that nothing in it can do harm or reach out."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page import HOSTILE, Page
from reporting import Made, publish, said, some_usage, versus
from running import FAKES, Runner, some_prompts

from pipelines.charts import Chart, Tally, histogram
from pipelines.markup import clipped, percent, plain, signed
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure
from prefgen.messages import user
from prefgen.planted import PlantedResult
from prefgen.prompt import Prompt
from prefgen.sampling import Sampled


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Five prompts: two pairs kept, one below the threshold, one failed, one with the same answer twice."""
    alone = Candidate("p5", "same", "test/x", 0), Candidate("p5", "same", "test/y", 0)
    made = [
        versus("p1", (3.0, 1.0), (30, 10)),
        versus("p2", (2.0, 2.0), (20, 30)),
        versus("p3", (1.0, -0.6)),
        versus("p4", (1.0, None)),
        (Prompt("p5", user("Again?")), Sampled(alone, {alone[1].id: alone[0].id}), []),
    ]
    planted = [
        PlantedResult("empty", "p1", True, True, 2.0),
        PlantedResult("identical", "p1", False, True, None),
    ]
    return publish(tmp_path_factory.mktemp("runs") / "run", made, planted)


@pytest.mark.parametrize(
    "words",
    [
        "2 preference pairs from 5 prompts",
        # The funnel: 10 written; p5's second is a duplicate; p4 has no verdict and p5 no rival.
        "10 responses written 9 distinct − 1 with the same text as another",
        "6 with a score − 3 not judged, or the judge failed 4 pairs compared",
        "7 judgments − 1 judging: the reply could not be read",
        "4 pairs looked at − 1 of the prompts had fewer than two responses",
        "2 pairs kept − 1 without a usable judgment − 1 below the confidence threshold",
        "4 KTO rows",
        # 30 and 20 characters against 10 and 30: SDs √50 and √200, d = 5 / √125.
        "chosen, mean length 25 ± 7 rejected, mean length 20 ± 14",
        "chosen is the longer one 50% chosen is the shorter one 50%",
        "Cohen’s d +0.45",
        # p1 ±1, p2 ±1, p3 ±0.1.
        "test/x 3 0.70 ± 0.52 test/y 3 −0.70 ± 0.52",
        # b = 1, 0 and 0.8; p3's orders disagree; 5 of 7 judgments went to what was shown first.
        "shown first 71.4% same verdict in both orders 66.7%",
        "log-odds +0.60 ± 0.53 a toss-up would go to the response shown first 64.6%",
        "3 questions asked in both orders",
        "a response must not lose to an empty one 5 5 +2.00",
        "a response against itself must not become a pair 5 5 –",
        "judging: the reply could not be read 1 12.5% of the calls",
        "margin +2.00, confidence 88.1%",
        "Dropped, nearest to the threshold margin +0.20, confidence 55% Prompt Question p3?",
        "answered as judge-2026 found missing logprobs",
        "constitution helpful-honest-harmless constitution, hash c0ffee",
        "cost Writer of responses – – – $0.00 Judge – – – $0.00 all 0 0 0 unknown",
        "writing and judging 5.0 min",
        "What stands out 12.5% of the calls gave no usable answer; most often judging: the reply could not",
        "--policy test/x, test/y",
    ],
)
def test_numbers_are_the_hand_worked_ones(page: Page, words: str) -> None:
    assert words in page.words


def test_bars_count_the_pairs(page: Page) -> None:
    """Two margins of 2.0 kept and one of 0.2 dropped, told in the bars' tips."""
    assert "2 kept, 0 dropped by the threshold" in page.words
    assert "0 kept, 1 dropped by the threshold" in page.words


def test_the_funnel_is_as_wide_as_what_is_left(page: Page) -> None:
    """Of 10 responses 9 are distinct and 6 have a score; of 4 pairs 2 are kept."""
    styles = [value for name, value in page.attributes if name == "style"]
    assert [style for style in styles if style.startswith("width")] == [
        *("width:100.0%", "width:100.0%", "width:90.0%", "width:60.0%", "width:100.0%", "width:87.5%"),
        *("width:100.0%", "width:50.0%", "width:100.0%", "width:100.0%"),
    ]
    assert "clip-path: polygon(5.0% 0%, 95.0% 0%, 80.0% 100%, 20.0% 100%)" in styles


def test_nothing_is_loaded_and_nothing_runs(page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "a"} & set(page.tags)
    assert not {"src", "href", "srcset", "xlink:href", "action", "data"} & {
        name for name, _ in page.attributes
    }
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_can_be_read_by_a_machine(page: Page) -> None:
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    names = dict(page.attributes)
    assert names["lang"] == "en"
    assert page.source.count('role="img" aria-label="') == page.source.count('<svg viewBox="0 0 400') == 5
    assert page.tags.count("table") == page.tags.count("caption") == page.tags.count("thead")


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    a = Candidate("p1", f"{HOSTILE} first", HOSTILE, 0)
    b = Candidate("p1", f"{HOSTILE * 30} second", "other", 0)
    results = [said("p1", a, b, odds, order, HOSTILE) for odds, order in ((3.0, "ab"), (1.0, "ba"))]
    failed = JudgeFailure("p1", a.id, b.id, HOSTILE, results[0].provenance)  # type: ignore[arg-type]
    made = [
        (Prompt("p1", user(HOSTILE)), Sampled((a, b), failures=(HOSTILE,)), results),
        (Prompt("p2", user(HOSTILE)), Sampled((a, b)), [failed]),
    ]
    models = {HOSTILE: {"spec": HOSTILE, "served": HOSTILE, "capabilities_missing": {HOSTILE: HOSTILE}}}
    page = publish(tmp_path / "run", made, models=models, constitution=HOSTILE, judge=HOSTILE)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.source.count("</style>") == page.source.count("</title>", 0, 500) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]|\\[31m|http://evil.example", page.source)
    assert "<script>alert(1)</script>" in page.words
    assert "$title ${style} {{x}}" in page.words


def _pointwise(name: str, scores: tuple[float | None, float | None]) -> Made:
    a, b = (Candidate(name, letter * 9, f"test/{letter}", 0) for letter in "xy")
    told = [said(name, item, None, value) for item, value in zip((a, b), scores, strict=True)]
    return Prompt(name, user("Question?")), Sampled((a, b)), told


_EMPTY = (Prompt("p1", user("Question?")), Sampled((), failures=("timeout", "api_error")), ())
_REWARD = {"reward_model": {"spec": "openai/rm@http://127.0.0.1:1", "served": "rm"}}
_DEGENERATE: dict[str, tuple[list[Made], dict[str, Any], str]] = {
    "no pair": ([versus("p1", (0.1, 0.1))], {}, "Nothing to show: this run kept no pair."),
    "one pair": ([versus("p1", (2.0, 2.0))], {"test_share": 0}, "1 preference pair from 1 prompt"),
    "empty test": (
        [versus("p1", (2.0, 2.0)), versus("p2", (2.0, 2.0))],
        {"test_share": 0},
        "2 train, 0 test",
    ),
    "only ties": ([versus("p1", (0.0, 0.0))], {}, "shown first – same verdict in both orders 100%"),
    "one order": (
        [(lambda made: (*made[:2], made[2][:1]))(versus("p1", (2.0, 2.0)))],
        {"both_orders": False},
        "judgments that went to the response shown first 100%",
    ),
    "pointwise": ([_pointwise("p1", (3.0, 1.0))], {"judging": "pointwise"}, "margin +2.00, confidence 88.1%"),
    "reward model": (
        [_pointwise("p1", (1e6, -1e6))],
        {"judge": (), "reward_model": "openai/rm@http://127.0.0.1:1", "models": _REWARD},
        "scored by the reward model openai/rm@http://127.0.0.1:1",
    ),
    "standard format": ([versus("p1", (2.0, 2.0))], {"format": "standard"}, "Chosen, 30 characters"),
    "failures only": ([versus("p1", (None, None))], {}, "100% of the calls gave no usable answer"),
    "no responses": ([_EMPTY], {}, "writing: no answer in time 1"),
    "no prompts": ([], {}, "0 preference pairs from 0 prompts"),
}


@pytest.mark.parametrize("case", _DEGENERATE)
def test_degenerate_runs_render(tmp_path: Path, case: str) -> None:
    made, options, words = _DEGENERATE[case]
    page = publish(tmp_path / "run", made, **options)
    assert words in page.words
    assert not re.search(r"\b(nan|inf|None|NaN)\b", page.source)
    assert ("Does the position" in page.words) == (
        case not in {"pointwise", "reward model"} and "shown first" in page.words
    )


def test_reasons_are_shown_where_the_judge_wrote_them(tmp_path: Path) -> None:
    raw = '{"reason": "The first one names a date and a person.", "percent_a": 90}'
    page = publish(tmp_path / "run", [versus("p1", (2.0, 2.0), raw=raw)])
    assert (
        "The judge, shown the chosen response first, as A The first one names a date and a person."
        in page.words
    )
    assert "percent_a" not in page.words


def test_long_texts_fold(tmp_path: Path) -> None:
    page = publish(tmp_path / "run", [versus("p1", (2.0, 2.0), (20_000, 10))])
    assert "show all 20,000 characters" in page.words
    assert "[… 12,000 more characters]" in page.words
    assert len(page.source) < 40_000


def test_command_writes_the_same_report_again(tmp_path: Path, prefgen: Runner) -> None:
    run = tmp_path / "run"
    prompts = some_prompts(tmp_path / "p.jsonl")
    assert prefgen("generate", prompts, *FAKES, "--out", run, "--strategy", "all", "--quiet").code == 0
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    assert prefgen("report", run, "--quiet").code == 0
    assert (run / "report.html").read_text() == before
    dropped = [int(n) for n in re.findall(r"(\d+) dropped by the threshold</title>", before)]
    assert f"{sum(dropped) // 2:,} below the confidence threshold" in before


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.sampled_from([1.0, 1 / 64, 0.025]))
def test_a_tally_counts_everything_in_few_bins(values: list[float], width: float) -> None:
    tally = Tally(width)
    for value in values:
        tally.add(value)
    assert tally.n == len(values)
    assert tally.high - tally.low < tally.most
    slack = 1e-6 * tally.width
    assert tally.low * tally.width <= min(values) + slack
    assert max(values) - slack <= (tally.high + 1) * tally.width
    assert "nan" not in histogram(tally, Chart("t", "x"))


def test_a_tally_is_a_histogram() -> None:
    draw = random.Random(3)
    values = [draw.gauss(2, 5) for _ in range(2000)]
    tally = Tally(1 / 64)
    for value in values:
        tally.add(value)
    edges = np.arange(tally.low, tally.high + 2) * tally.width
    expected, _ = np.histogram(values, edges)
    assert [tally.bins[0][place] for place in range(tally.low, tally.high + 1)] == expected.tolist()


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0%"), (1e-5, "under 0.1%"), (0.5, "50%"), (0.99999, "over 99.9%"), (1, "100%")]
)
def test_only_all_is_called_all(share: float, shown: str) -> None:
    assert percent(share) == shown


def test_small_pieces() -> None:
    assert [signed(value) for value in (None, 0.001, -0.001, 1.5, -1.5)] == [
        "–",
        "0.00",
        "0.00",
        "+1.50",
        "−1.50",
    ]
    assert plain("a\x1b[1;31mb\x1b[0m\tc\r\nd\x00") == "ab\tc\nd"
    assert "(empty)" in clipped(" \x00 ")


def test_what_it_cost_is_told_by_role_and_by_pair(tmp_path: Path) -> None:
    usage = some_usage(
        cost_usd=12.5,
        input_tokens=4000,
        cached_tokens=1000,
        by_role={"policy": {"cost_usd": 2.5}, "judge": {"cost_usd": 10.0}},
        cost_per_pair_usd=0.0625,
        unanswered_usd=0.02,
    )
    a, b = Candidate("p", "yes", "test/x", 0), Candidate("p", "no", "test/y", 0)
    made = (Prompt("p", user("Question?")), Sampled((a, b), spared=4), [])
    words = publish(tmp_path / "run", [made], usage=usage).words
    for told in (
        "Writer of responses – – – $2.50 Judge – – – $10.00 all 0 4,000 0 $12.50",
        "cost of a kept pair $0.0625",
        "tokens read from a prompt cache 25%",
        "calls without an answer may have cost $0.0200",
        "2 responses written − 4 not needed, because a pair was clear before",
    ):
        assert told in words

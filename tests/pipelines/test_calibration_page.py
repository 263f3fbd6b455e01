"""The page of a calibration: its answer in words, its numbers, and that nothing in it can do harm."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page import HOSTILE, Page
from running import Runner, write_prompts

from judges.items import Item, collect
from judges.selective import FEWEST
from pipelines.calibration.examine import examine
from pipelines.calibration.page import write_page
from pipelines.calibration.settings import Settings
from pipelines.calibration.watch import watch
from pipelines.calibration.words import alternative, ceiling, headline, honesty, plan
from pipelines.curves import Axes, below, interval
from prefgen.candidate import Candidate
from prefgen.judgment import Verdict
from prefgen.labels import LabelledPair, Pair
from prefgen.messages import user
from prefgen.prompt import Prompt
from prefgen.verdict_file import RecordedVerdict

SETTINGS = Settings(0.9, 0.1, "auto", False, 0.1, 0.1, 0, "mean", ["test/judge"])
RELAXED = replace(SETTINGS, width=0.3)
Found = dict[str, Any]


def told(
    name: object,
    human: Verdict | Sequence[tuple[str | None, Verdict]],
    *odds: float,
    texts: tuple[str, str] = ("one", "three"),
    prompt: str = "Question ",
    **verdict: Any,
) -> Item:
    """An item with the log-odds that the judge stated of it in the orders ab and ba, in turn."""
    votes: Sequence[tuple[str | None, Verdict]] = [(None, human)] if isinstance(human, str) else human
    a, b = (Candidate(str(name), text, f"file/{side}", 0) for text, side in zip(texts, "ab", strict=True))
    pair = Pair(str(name), Prompt(str(name), user(f"{prompt}{name}")), a, b)
    names, labels = zip(*votes, strict=True)
    said = [
        RecordedVerdict(
            str(name), _side(value), value, "ba" if place % 2 else "ab", **({"judge": "test/judge"} | verdict)
        )
        for place, value in enumerate(odds)
    ]
    return collect([LabelledPair(pair, labels, names)], said)[0]


def bare(name: object, human: Verdict, *verdicts: Verdict | None) -> Item:
    """The same with verdicts alone; None: the judge gave none."""
    pair = told(name, human).pair
    orders = ("ab", "ba")
    said = [RecordedVerdict(str(name), one, None, orders[n % 2]) for n, one in enumerate(verdicts)]
    return collect([LabelledPair(pair, (human,), (None,))], said)[0]


def _side(odds: float) -> Verdict:
    return "tie" if odds == 0 else "a" if odds > 0 else "b"


def found(items: Sequence[Item], settings: Settings = SETTINGS) -> Found:
    return examine(items, settings) | {"judge": {"names": ["test/judge"]}}


def page(folder: Path, items: Sequence[Item], settings: Settings = SETTINGS, **changes: Any) -> Page:
    write_page(folder / "report.html", found(items, settings) | changes, items)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def clean(n: int = 100) -> list[Item]:
    """A judge that is right, alike in both orders, on labels of a and b in turn."""
    return [told(number, "ab"[number % 2], *[3.0 * (-1) ** number] * 2) for number in range(n)]  # type: ignore[arg-type]


def mixed() -> list[Item]:
    """Forty surer labels of which one is wrong, forty less sure ones of which twelve are; three annotators
    of whom the third is against the others on every fourth item; the first slot wins 0.5 log-odds."""
    items = []
    for number in range(80):
        human: Verdict = "ab"[number % 2]  # type: ignore[assignment]
        sure, wrong = (3.0, number == 7) if number < 40 else (0.5, number % 10 in (1, 4, 6))
        margin = sure * (1 if (human == "a") != wrong else -1)
        third: Verdict = human if number % 4 else "tie"
        votes: list[tuple[str | None, Verdict]] = [("x", human), ("y", human), ("z", third)]
        items.append(told(number, votes, margin + 0.25, margin - 0.25))
    return items


@pytest.fixture(scope="module")
def mixed_found() -> Found:
    return found(mixed())


@pytest.fixture(scope="module")
def mixed_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(tmp_path_factory.mktemp("page"), mixed())


@pytest.mark.parametrize(
    ("selective", "n", "words"),
    [
        ({"coverage": 0.575, "target": 0.9}, 400, "Keeps 57.5% of labels at 90% precision"),
        (None, 400, "Abstains: no threshold earns 90% precision"),
        (None, FEWEST - 1, "Abstains: 29 labels cannot earn 90% precision"),
    ],
)
def test_the_headline_is_the_answer(selective: Found | None, n: int, words: str) -> None:
    items = {"target": 0.9, "confidence": [0.5] * n}
    assert headline({"selective": selective, "selective_items": items, "cascade": None}) == words


def test_the_headline_without_a_decided_label() -> None:
    nothing: Found = dict.fromkeys(("selective", "selective_items", "cascade"))
    assert headline(nothing).startswith("Cannot tell")
    assert headline(nothing | {"cascade": {}}).startswith("Abstains: no judge of the cascade")


@pytest.mark.parametrize(
    ("judge", "people", "words"),
    [
        ([0.8, 0.9], [0.6, 0.7], "less often"),
        ([0.5, 0.6], [0.65, 0.8], "more often"),
        ([0.6, 0.7], [0.65, 0.8], "as often"),
    ],
)
def test_the_ceiling_is_told_as_the_intervals_allow(
    judge: list[float], people: list[float], words: str
) -> None:
    told = {
        "judge_agreement": {"value": 0.66, "ci": judge},
        "human_agreement": 0.7,
        "human_agreement_ci": people,
    }
    assert f"annotators agree among themselves {words}" in ceiling({"annotators": told})


def test_a_clean_judge_with_enough_labels_worries_nobody() -> None:
    assert watch(found(clean(), RELAXED)) == []


_POSITION = {"n_both_orders": 100, "consistency": 0.9, "first_slot_rate": 0.62, "p_value": 0.0004}
_STEADY = {"n_questions": 50, "agreement": {"value": 0.97, "ci": [0.95, 1.0]}}
_LONGER = {"n": 60, "difference": {"value": 0.116, "ci": [0.078, 0.154]}}
_WORRIES: dict[str, tuple[Mapping[str, Any], str]] = {
    "failures": ({"n_failed": 3, "n": 97}, "On 3 of 100 pairs it gave no usable verdict; they are left out."),
    "failures as ties": ({"n_failed": 3}, "they count as ties in the agreement"),
    "first slot": (
        {"position": _POSITION},
        "62% of its decided verdicts go to the response shown first (p < 0.001)",
    ),
    "inconsistent": ({"position": _POSITION | {"p_value": 0.5, "consistency": 0.7}}, "Only 70% of the pairs"),
    "paradox": ({"position": _POSITION, "repeats": _STEADY}, "steady, and steadily wrong"),
    "length": ({"length": _LONGER}, "the longer response more often than people do, by 11.6 points"),
    "style": (
        {"style": {"bold": _LONGER | {"difference": {"value": -0.05, "ci": [-0.09, -0.01]}}}},
        "more bold text less often than people do, by 5.0 points",
    ),
    "family": (
        {"self_preference": {"n_own": 40, "n_other": 40, "difference": {"value": 0.2, "ci": [0.1, 0.3]}}},
        "20.0 points more often where they prefer a response of its own family",
    ),
    "labels": (
        {"planner": {"more_for_width": 14, "labels_for_width": 114, "width": 0.1}},
        "100 labels are few: an interval of agreement 10 points wide needs about 114.",
    ),
    "debiased": (
        {
            "probability": {
                "map": {"kind": "debiased"},
                "maps": {"debiased": {"gain": 0.06, "gain_standard_error": 0.02}},
            }
        },
        "predicts people better; the calibration does so",
    ),
}
_QUIET: dict[str, Mapping[str, Any]] = {
    "one order only": {"position": _POSITION | {"n_both_orders": 0, "consistency": None}},
    "slot within chance": {"position": _POSITION | {"p_value": 0.05}},
    "consistency within chance": {
        "position": _POSITION | {"p_value": 0.5, "n_both_orders": 10, "consistency": 0.7}
    },
    "steady without a lean": {
        "position": _POSITION | {"first_slot_rate": 0.5, "p_value": 1.0},
        "repeats": _STEADY,
    },
    "length within chance": {"length": {"n": 60, "difference": {"value": 0.1, "ci": [-0.01, 0.2]}}},
    "too few pairs of a style": {"style": {"code": {"n": 3, "difference": {"value": 1.0, "ci": [1.0, 1.0]}}}},
    "too few of a family": {
        "self_preference": {"n_own": 3, "n_other": 97, "difference": {"value": 0.2, "ci": [0.1, 0.3]}}
    },
}


@pytest.fixture(scope="module")
def quiet() -> Found:
    return found(clean(), RELAXED)


@pytest.mark.parametrize("case", _WORRIES)
def test_what_the_intervals_support_is_a_worry(quiet: Found, case: str) -> None:
    changed, words = _WORRIES[case]
    assert words in " ".join(watch(quiet | changed)).replace("\u00a0", " ")


@pytest.mark.parametrize("case", _QUIET)
def test_what_may_be_chance_is_none(quiet: Found, case: str) -> None:
    assert watch(quiet | _QUIET[case]) == []


def test_the_alternative_annotator_test_in_words() -> None:
    test = {"advantages": {"x": 0.1, "y": 0.0, "z": -0.3}, "winning_rate": 2 / 3, "epsilon": 0.1}
    people = {"alternative_annotator": test | {"passed": True, "average_advantage": 0.875}}
    assert "Passed: the judge may stand in for 2 of 3 annotators" in alternative(people)
    none = {"alternative_annotator": None, "n": 3}
    assert "the labels name 2" in alternative(none | {"n_named": 2})
    assert "the labels name none" in alternative(none | {"n_named": 0})
    assert "at least 30 pairs" in alternative(none)


def test_honesty_is_held_against_the_noise_floor() -> None:
    told = {"temperature": 2.0, "map": {"kind": "temperature"}, "ece_raw": 0.1, "ece_noise_floor": 0.03}
    assert "too sure. The calibration error" in honesty(told | {"ece_calibrated": 0.02})
    assert "0.020, no more than the 0.030" in honesty(told | {"ece_calibrated": 0.02})
    assert "0.080, more than the 0.030" in honesty(told | {"ece_calibrated": 0.08})
    assert "counts as ±1" in honesty(told | {"ece_raw": None, "ece_calibrated": None})


@pytest.mark.parametrize(
    ("selective", "in_all", "more", "words"),
    [
        ({}, 120, 0, "earned already"),
        (None, None, None, "more labels alone will not earn it"),
        (None, 90, 0, "as often as not"),
        (None, 500, 400, "about 400 more labels"),
    ],
)
def test_the_plan_in_words(selective: Found | None, in_all: int | None, more: int | None, words: str) -> None:
    planner = {"width": 0.1, "labels_for_width": 300, "more_for_width": 200}
    planner |= {"labels_for_target": in_all, "more_for_target": more}  # type: ignore[dict-item]
    said = plan({"planner": planner, "selective_items": {"target": 0.9}, "selective": selective})
    assert "200 more labels (300 in all)" in said[0]
    assert words in said[1]
    assert "--unlabelled" in said[2]


@pytest.mark.parametrize(
    "words",
    [
        "test/judge, held against the labels of 3 annotators on 80 pairs.",
        # 13 of 80 wrong: 67 / 80. x and y agree always, z with both on 3 of 4: mean of 1 and 1/3 is 5/6.
        "agreement, ties counted 83.8%",
        "annotators among themselves 83.3%",
        "x and z 0.60 y and z 0.60 x and y 1.00",
        # Each item in two orders whose margins have one sign.
        "same verdict in both orders 100% always the first, always the second 0, 0",
        "lean to the first, log-odds +0.25 (+0.25 to +0.25)",
        # b is longer: people prefer it in 40 of 80.
        "the longer response 80 pairs",
        "verdicts for the response shown first 50%",
        "It is against the majority on 13 pairs.",
        "Pair 7: 9",
        "Response b, preferred by people three",
        "--target-precision 0.9",
    ],
)
def test_the_numbers_are_the_hand_worked_ones(mixed_page: Page, words: str) -> None:
    assert words in mixed_page.words


def test_the_threshold_is_told_as_it_was_found(mixed_page: Page, mixed_found: Found) -> None:
    """The sure half is right in 39 of 40: a bound of 9.4% on its errors."""
    chosen = mixed_found["selective"]
    assert (chosen["n_kept"], chosen["n_errors"]) == (40, 1)
    assert "Keeps 50% of labels at 90% precision" in mixed_page.words
    assert "these are 40 (50%), 1 of them wrong: 97.5% are right, and at least 90.6%" in mixed_page.words
    assert "target 90%" in mixed_page.words
    assert "kept 50%" in mixed_page.words


def test_the_curve_has_a_point_for_every_threshold(mixed_page: Page) -> None:
    """Two thresholds: 39 of 40 and 67 of 80 right."""
    assert {"97.5%", "83.8%"} <= set(mixed_page.text)
    assert "With the surest 50% of 80 labels kept 97.5% are right, with all of them 83.8%" in {
        value for _, value in mixed_page.attributes
    }


def test_the_surest_error_comes_first(mixed_page: Page) -> None:
    pairs = re.findall(r"Pair (\d+): ([\d.]+)% sure of ([ab])", mixed_page.words)
    assert len(pairs) == 5
    assert pairs[0][0] == "7"
    assert float(pairs[0][1]) > 90
    assert pairs[0][2] == "a"
    assert [float(sure) for _, sure, _ in pairs] == sorted(
        (float(sure) for _, sure, _ in pairs), reverse=True
    )


def test_nothing_is_loaded_and_nothing_runs(mixed_page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "a"} & set(mixed_page.tags)
    assert not {"src", "href", "srcset", "xlink:href", "action"} & {name for name, _ in mixed_page.attributes}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in mixed_page.attributes


def test_can_be_read_by_a_machine(mixed_page: Page) -> None:
    assert mixed_page.tags.count("h1") == 1
    assert dict(mixed_page.attributes)["lang"] == "en"
    assert (
        mixed_page.source.count('role="img" aria-label="') == mixed_page.source.count('viewBox="0 0 400') == 2
    )
    assert (
        mixed_page.tags.count("table") == mixed_page.tags.count("caption") == mixed_page.tags.count("thead")
    )


_DEGENERATE: dict[str, tuple[Sequence[Item], str]] = {
    "two items": ([told(1, "a", 1.0), told(2, "b", 1.0)], "Abstains: 2 labels cannot earn 90% precision"),
    "too few for a curve": (clean(10), "No curve: no threshold is tested on fewer than 30 labels."),
    "people tie always": ([told(n, "tie", 1.0) for n in range(5)], "Cannot tell: too few labels decide"),
    "judge ties always": ([told(n, "a", 0.0) for n in range(40)], "Abstains: no threshold earns 90%"),
    "bare verdicts": (
        [bare(n, "a", "a", "b") for n in range(40)],
        "a verdict without a probability counts as ±1",
    ),
    "one order": ([bare(n, "a", "a") for n in range(40)], "No pair was asked in both orders"),
    "failures": ([bare(1, "a", None), *clean(2)], "On 1 of 3 pairs it gave no usable verdict"),
    "no disagreement": (clean(40), "Nowhere: it is on the side of the majority"),
    "alike": ([told(n, "a", 1.0, texts=("same", "text")) for n in range(3)], "never differ in length"),
    "empty responses": ([told(n, "a", -1.0, texts=("", "")) for n in range(3)], "(empty)"),
}


@pytest.mark.parametrize("case", _DEGENERATE)
def test_degenerate_labels_render(tmp_path: Path, case: str) -> None:
    items, words = _DEGENERATE[case]
    made = page(tmp_path, items)
    assert words in made.words
    assert not re.search(r"\b(nan|inf|None|NaN)\b", made.source)


def test_principles_are_a_table(tmp_path: Path) -> None:
    odds = {"kind": 2.0, "short": -1.0}
    items = [told(n, "a", 2.0, principles=odds) for n in range(40)]
    assert "principle agreement alone weight kind 100%" in page(tmp_path, items).words
    assert "earn their place" not in page(tmp_path, clean(3)).words


def jury(n: int = 60) -> list[Item]:
    """A cheap judge that is right where it is sure, on the first half, and a strong one that always is."""
    pairs = [told(number, "ab"[number % 2]).pair for number in range(n)]  # type: ignore[arg-type]
    labelled = [LabelledPair(pair, ("ab"[place % 2],), (None,)) for place, pair in enumerate(pairs)]  # type: ignore[arg-type]
    said = []
    for place, pair in enumerate(pairs):
        right = (-1.0) ** place
        cheap = 4 * right if place < n / 2 else 0.1 * (right if place % 3 else -right)
        said.append(RecordedVerdict(pair.id, _side(cheap), cheap, "ab", "cheap"))
        said.append(RecordedVerdict(pair.id, _side(right), 3 * right, "ab", "strong"))
    return collect(labelled, said)


def test_a_cascade_is_told_judge_by_judge(tmp_path: Path) -> None:
    settings = replace(SETTINGS, combine="cascade", judges=["cheap", "strong"], target=0.8)
    asked = {"judge": ["test/cheap", "test/strong"], "reward_model": None, "combine": "cascade"}
    words = page(tmp_path, jury(), settings, judge=asked).words
    assert "Keeps 100% of labels at 80% precision" in words
    assert re.search(r"cheap 60 83\.3% 30 [01]\.\d{3} strong 30 100% 30 [01]\.\d{3}", words)
    assert "--judge test/cheap --judge test/strong --combine cascade --calibration" in words
    assert "and at least 80% with 90% certainty" in words
    assert "calibrate one alone to see its probabilities" in words


def test_a_cascade_without_a_sure_judge_abstains(tmp_path: Path) -> None:
    settings = replace(SETTINGS, combine="cascade", judges=["cheap", "strong"])
    words = page(tmp_path, jury(10), settings).words
    assert "Abstains: no judge of the cascade" in words
    assert "--target-precision 0.9" in words


def test_a_stacked_jury_tells_its_weights(tmp_path: Path) -> None:
    settings = replace(SETTINGS, combine="stacked", judges=["cheap", "strong"])
    words = page(tmp_path, jury(), settings).words
    assert "Which judges carry the jury?" in words
    assert re.search(r"strong 100% \d+\.\d\d cheap 83.3% \d+\.\d\d", words)


def test_many_annotators_are_counted(tmp_path: Path) -> None:
    """Seven annotators: 21 pairs of them, of which 12 are shown."""
    names = "abcdefg"
    votes = [[(name, "a" if n % 2 else "b") for name in names] for n in range(4)]
    made = page(tmp_path, [told(n, vote, 1.0) for n, vote in enumerate(votes)])  # type: ignore[arg-type]
    assert len(re.findall(r"\b[a-g] and [a-g]\b", made.words)) == 12
    assert "The lowest; 9 more pairs of annotators not shown." in made.words


def test_a_debiased_map_tells_its_weights(tmp_path: Path) -> None:
    items = mixed()
    probability = found(items)["probability"]
    told = probability["map"] | {"kind": "debiased", "style": {"length": [-2.0, 116.0]}}
    words = page(tmp_path, items, probability=probability | {"map": told}).words
    # tanh(1) = 0.7616.
    assert "116 more characters −1.52" in words
    assert "what is owed to length and formatting is taken out" in words


def test_the_command_names_the_judge_that_was_asked(tmp_path: Path) -> None:
    items = clean(40)
    words = page(tmp_path, items, judge={"judge": ["openai/a b", "openai/c"], "reward_model": None}).words
    assert "--judge 'openai/a b' --judge openai/c --calibration" in words
    assert "openai/a b, openai/c, held against" in words
    words = page(tmp_path, items, judge={"judge": [], "reward_model": "openai/rm@http://127.0.0.1:1"}).words
    assert "--reward-model openai/rm@http://127.0.0.1:1" in words


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    votes: list[tuple[str | None, Verdict]] = [(HOSTILE, "a"), (HOSTILE + "2", "a"), ("z|z", "b")]
    items = [
        told(
            f"{HOSTILE}{n}",
            votes,
            -2.0,
            texts=(HOSTILE, HOSTILE * 30),
            prompt=HOSTILE,
            principles={HOSTILE: -1.0},
        )
        for n in range(40)
    ]
    made = page(tmp_path, items, judge={"names": [HOSTILE]})
    assert not {"script", "img"} & set(made.tags)
    assert not [name for name, _ in made.attributes if name.startswith("on")]
    assert made.source.count("</style>") == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]|\\[31m|http://evil.example", made.source)
    assert "<script>alert(1)</script>" in made.words
    assert "$title ${style} {{x}}" in made.words


def test_the_command_writes_the_page(tmp_path: Path, prefgen: Runner) -> None:
    labels = write_prompts(
        tmp_path / "l.jsonl",
        (
            {"id": n, "prompt": f"Q {n}?", "response_a": "one", "response_b": "two", "label": "a"}
            for n in range(50)
        ),
    )
    verdicts = write_prompts(tmp_path / "v.jsonl", ({"id": n, "verdict": "a", "p_a": 0.9} for n in range(50)))
    ran = prefgen("calibrate", labels, "--verdicts", verdicts, "--out", tmp_path / "c", "--quiet")
    assert ran.code == 0, ran.err
    made = Page((tmp_path / "c" / "report.html").read_text(encoding="utf-8"))
    assert "Keeps 100% of labels at 90% precision" in made.words
    kept = json.loads((tmp_path / "c" / "calibration.json").read_text())["selective"]
    assert f"at least {1 - kept['upper_bound']:.1%} with 90% certainty" in made.words


def test_an_axis_begins_at_a_round_share_and_ends_at_one() -> None:
    assert below([0.87, 0.73], 0.8) == 0.7
    assert below([0.95], 0.8) == 0.8
    assert below([], 0.5) == 0.5
    drawn = Axes("t", "x", "y", 0.5, 0.0).drawn("d", Axes("t", "x", "y", 0.5).line([(0.5, 0.0), (1.0, 1.0)]))
    # The plane is 346 wide from 44, 200 high from 30.
    assert 'd="M44.0 230.0L390.0 30.0"' in drawn
    assert re.findall(r'text-anchor="(?:middle|end)">(\d+%)', drawn) == [
        *("0%", "20%", "40%", "60%", "80%", "100%"),
        *("50%", "60%", "70%", "80%", "90%", "100%"),
    ]


def test_an_interval_is_drawn_about_zero() -> None:
    drawn = interval(0.1, (-0.1, 0.2), 0.2)
    assert 'd="M27.0 5H96.0"' in drawn
    assert 'cx="73.0"' in drawn

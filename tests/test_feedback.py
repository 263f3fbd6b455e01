from __future__ import annotations

from typing import Any

import pytest

from prefgen.feedback import Compared, Neutral, Rated, layout_of, paired, read_feedback, unpaired
from prefgen.messages import Json, Message, user
from prefgen.opinion import Reading, opinion

FIVE_STARS = Reading(good_from=4, bad_to=2)


def reply(text: str) -> list[Json]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("columns", "layout"),
    [
        ("prompt kept discarded", "kept"),
        ("prompt sent draft", "sent"),
        ("prompt chosen rejected", "pair"),
        ("chosen rejected", "transcripts"),
        ("prompt response thumbs", "rated"),
        ("prompt completion label", "rated"),
        ("prompt response", None),
        ("prompt kept", None),
        ("", None),
    ],
)
def test_the_columns_tell_the_form(columns: str, layout: str | None) -> None:
    assert layout_of(dict.fromkeys(columns.split())) == layout


@pytest.mark.parametrize(
    "value", [True, 1, 1.0, "1", "+1", "True", "UP", "thumbs_up", "Thumbs up", "👍", "👍🏽", "like"]
)
def test_thumbs_up(value: Json) -> None:
    assert opinion({"thumbs": value}, Reading()) is True


@pytest.mark.parametrize(
    "value", [False, -1, -1.0, "-1", "-1.0", "false", "down", "thumbs-down", "👎", "No", "0", 0]
)
def test_thumbs_down(value: Json) -> None:
    assert opinion({"label": value}, Reading()) is False


@pytest.mark.parametrize("value", [None, "", " ", "null", "neutral", float("nan"), 0, "0", 0.0, "0.0"])
def test_no_thumb(value: Json) -> None:
    assert opinion({"thumbs": value}, Reading(zero="neutral")) is None


def test_an_absent_opinion_hides_no_other() -> None:
    assert opinion({"label": "nan", "thumbs": "1.0"}, Reading()) is True


@pytest.mark.parametrize("value", [2, "maybe", "up/down", [], {}, 0.5])
def test_what_is_no_thumb(value: Json) -> None:
    with pytest.raises(ValueError, match="not a known opinion"):
        opinion({"label": value}, Reading())


@pytest.mark.parametrize(
    ("value", "good"), [(5, True), (4, True), ("4.0", True), (3, None), (2, False), (0, False)]
)
def test_ratings_by_their_limits(value: Json, good: bool | None) -> None:
    assert opinion({"rating": value}, FIVE_STARS) is good


@pytest.mark.parametrize("value", ["four", True, "4/5", float("inf"), []])
def test_what_is_no_rating(value: Json) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        opinion({"rating": value}, FIVE_STARS)


def test_the_first_opinion_that_is_given_counts() -> None:
    assert opinion({"label": None, "thumbs": "", "rating": 5}, FIVE_STARS) is True
    assert opinion({"thumbs": "down", "rating": 5}, FIVE_STARS) is False


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": "hi", "kept": "yes", "discarded": "no"}, Compared("hi", "yes", "no")),
        ({"prompt": "hi", "kept": "yes", "discarded": ""}, Compared("hi", "yes", "")),
        ({"prompt": "hi", "sent": "yes", "draft": "no"}, Compared("hi", "yes", "no")),
        ({"prompt": "hi", "sent": "yes\r\n", "draft": "yes"}, Rated("hi", "yes\n", True)),
        ({"prompt": "hi", "chosen": "a", "rejected": "b", "margin": "0.5"},
         Compared("hi", "a", "b", {"margin": 0.5})),
        ({"prompt": "hi", "chosen": reply("a"), "rejected": reply("b"), "margin": None},
         Compared("hi", (Message("assistant", "a"),), (Message("assistant", "b"),))),
        ({"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\r\n\r\nHuman: hi\r\n\r\nAssistant: b"},
         Compared(user("hi"), (Message("assistant", "a"),), (Message("assistant", "b"),))),
        ({"chosen": [{"role": "user", "content": "hi"}, *reply("a")],
          "rejected": [{"role": "user", "content": "hi"}, *reply("b")]},
         Compared(user("hi"), (Message("assistant", "a"),), (Message("assistant", "b"),))),
        ({"prompt": "<p>hi</p>", "response": "<b>&amp;</b>", "label": "true"},
         Rated("<p>hi</p>", "<b>&amp;</b>", True)),
        ({"prompt": "hi", "response": "", "label": 0}, Rated("hi", "", False)),
        ({"prompt": "hi", "response": "so", "rating": 3}, Neutral("neutral or no opinion")),
    ],
)  # fmt: skip
def test_what_a_row_says(values: dict[str, Any], said: object) -> None:
    assert read_feedback(values, FIVE_STARS) == said


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"text": "hi"}, "no known columns: text"),
        ({"prompt": " ", "kept": "a", "discarded": "b"}, "the prompt is empty"),
        ({"kept": "a", "discarded": "b"}, "a prompt is a string"),
        ({"prompt": "hi", "kept": " ", "discarded": "b"}, "the good response is empty"),
        ({"prompt": "hi", "kept": None, "discarded": "b"}, "kept is neither text nor messages"),
        ({"prompt": "hi", "kept": "a", "discarded": "a\n"}, "the same text"),
        ({"prompt": "hi", "kept": "a", "discarded": reply("a")}, "the same text"),
        ({"prompt": "hi", "sent": "", "draft": ""}, "the good response is empty"),
        ({"prompt": "hi", "response": "", "thumbs": "up"}, "the good response is empty"),
        ({"prompt": "hi", "response": "a", "thumbs": "sideways"}, "not a known opinion"),
        (
            {"prompt": "hi", "chosen": "a", "rejected": [{"role": "user", "content": "b"}]},
            "does not end with",
        ),
        ({"prompt": "hi", "chosen": "a", "rejected": [{"role": "robot", "content": "b"}]}, "role 'robot'"),
        (
            {"chosen": "\n\nHuman: hi", "rejected": "\n\nHuman: hi\n\nAssistant: b"},
            "chosen: .*ends with Human",
        ),
        ({"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": 3}, "rejected is neither"),
    ],
)
def test_a_row_that_says_nothing_is_told_why(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_feedback(values, FIVE_STARS)


def test_a_comparison_taken_apart() -> None:
    assert unpaired(Compared("p", "a", "b")) == [Rated("p", "a", True), Rated("p", "b", False)]


def test_ratings_are_paired_within_their_prompt_each_once() -> None:
    rated = [
        Rated("p", "good 1", True),
        Rated("q", "good", True),
        Rated("p", "bad 1", False),
        Rated("p", "good 2", True),
        Rated("p", "bad 2", False),
        Rated("p", "bad 3", False),
        Rated("r", "same", True),
        Rated("r", "same ", False),
        Rated(user("q"), "bad", False),
    ]
    made, left = paired(rated)
    assert made == [
        (0, Compared("p", "good 1", "bad 1")),
        (1, Compared("q", "good", "bad")),
        (3, Compared("p", "good 2", "bad 2")),
    ]
    assert left == [5, 6, 7]

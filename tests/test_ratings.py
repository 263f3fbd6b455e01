"""Rated and ranked lists: a rating stands with its response, or the row is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefgen.feedback import Compared, Neutral, layout_of, read_feedback
from prefgen.messages import Message, user
from prefgen.opinion import Reading
from prefgen.ratings import Listed, RateBy, read_listed


def rated(response: str, *ratings: object, overall: object = 5) -> dict[str, Any]:
    names = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    aspects = {
        name: {"Rating": rating, "Rationale": "r"} for name, rating in zip(names, ratings, strict=False)
    }
    return {"response": response, "model": "m", "annotations": aspects, "overall_score": overall}


def ultra(*completions: object) -> dict[str, Any]:
    return {"source": "s", "instruction": "Why?", "models": ["m"], "completions": list(completions)}


def test_aspects_are_averaged_and_the_known_error_is_not_believed() -> None:
    """Overall scores of 1 that became 10 (argilla-io/notus, issue 7)."""
    row = ultra(rated("good", "5", "4", "5", "4", overall=8), rated("bad", "1", "2", "1", "1", overall=10))
    assert read_listed(row, "aspects") == Listed("Why?", ("good", "bad"), (4.5, 1.25))
    with pytest.raises(ValueError, match=r"completions, number 2: overall_score is 10 and .* mean of 1\.25"):
        read_listed(row, "overall")


def test_the_overall_score_where_there_is_nothing_else() -> None:
    row = ultra(rated("a", overall=7.5), rated("b", overall="9"))
    assert read_listed(row, "aspects").values == (7.5, 9)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (ultra(rated("a", "5"), rated("b", "N/A")), "number 2: instruction_following is not a number: 'N/A'"),
        (ultra(rated("a", 5), rated("b", None)), "number 2: instruction_following is not a number: None"),
        (ultra(rated("a", 5), rated("b", float("nan"))), "is not a number: nan"),
        (ultra(rated("a", overall=None), rated("b")), "number 1: overall_score is not a number"),
        (ultra(rated("a", 5), {**rated("b", 4), "response": None}), "number 2 is not text"),
        (ultra(rated("a", 5)), "not a list of two or more"),
        (ultra(rated("a", 5), "b"), "number 2 is not an object"),
        ({**ultra(rated("a", 5), rated("b", 4)), "instruction": " "}, "is not text"),
        ({"prompt": "p", "generations": ["a", "b"], "ratings": [5, 4, 1]}, "2 generations and 3 ratings"),
        ({"prompt": "p", "generations": ["a", "b"], "ratings": [2, None]}, "number 2 is not a number"),
        ({"prompt": "p", "generations": ["a", "b"], "ratings": [True, 1]}, "ratings, number 1"),
        ({"prompt": "p", "answers": [{"answer": "a", "rank": 1}, {"answer": "b"}]}, "number 2: rank is not"),
    ],
)  # fmt: skip
def test_a_rating_that_is_none_refuses_the_row_and_is_never_shifted(row: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_feedback(row, Reading())


def test_a_lower_rank_is_better_and_a_transcript_is_a_prompt() -> None:
    prompt = "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: why\n\nAssistant: "
    answers = [{"answer": "b", "rank": 2.0}, {"answer": "a", "rank": 1.0}, {"answer": "c", "rank": 2.0}]
    listed = read_listed({"prompt": prompt, "answers": answers}, "aspects")
    assert listed.prompt == (Message("user", "hi"), Message("assistant", "yes?"), Message("user", "why"))
    assert (listed.values, listed.ranked) == ((-2, -1, -2), True)
    assert listed.pairs("best-worst", 0) == [("a", "b")]
    assert listed.pairs("all", 0) == [("a", "b"), ("a", "c")]


def test_pairs_of_a_list() -> None:
    listed = Listed("p", ("two", "five", "four", "five too"), (2, 5, 4, 5))
    assert listed.pairs("best-worst", 0) == [("five", "two")]
    assert listed.pairs("all", 0) == [
        ("five", "two"), ("five too", "two"), ("four", "two"), ("five", "four"), ("five too", "four"),
    ]  # fmt: skip
    assert listed.pairs("all", 3) == [("five", "two"), ("five too", "two")]
    assert Listed("p", ("a", "b"), (3, 3)).pairs("all", 0) == []


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=6),
    st.sampled_from(["best-worst", "all"]),
    st.floats(0, 5),
)
def test_a_pair_is_always_the_right_way_round_and_wide_enough(values: list[int], by: Any, gap: float) -> None:
    names = [f"r{place}" for place in range(len(values))]
    row = {"prompt": "p", "generations": names, "ratings": values}
    of = dict(zip(names, values, strict=True))
    pairs = read_listed(row, "aspects").pairs(by, gap)
    assert all(of[better] > of[worse] and of[better] - of[worse] >= gap for better, worse in pairs)
    assert len(pairs) == len(set(pairs))
    if by == "all":
        assert len(pairs) == sum(a - b >= gap and a > b for a in values for b in values)


# ----------------------------------------------------------------------------------------------- other shapes


def talk(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]


def arena(winner: str, other: str = "p") -> dict[str, Any]:
    return {"conversation_a": talk("p", "a"), "conversation_b": talk(other, "b"), "winner": winner}


def answer(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


BINARIZED = {"prompt": "Why?", "prompt_id": "x", "messages": [], "score_chosen": 8.5, "score_rejected": 3.0}


@pytest.mark.parametrize(
    ("values", "layout", "said"),
    [
        ({**BINARIZED, "chosen": talk("Why?", "so"), "rejected": talk("Why?", "no")}, "pair",
         Compared(user("Why?"), answer("so"), answer("no"))),
        ({**BINARIZED, "chosen": talk("hi", "yes?", "Why?", "so"),
          "rejected": talk("hi", "yes?", "Why?", "no")},
         "pair", Compared((Message("user", "hi"), Message("assistant", "yes?"), Message("user", "Why?")),
                          answer("so"), answer("no"))),
        ({**BINARIZED, "score_rejected": 8.5, "chosen": "a", "rejected": "b"}, "pair", Neutral("tie")),
        ({"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 1,
          "safer_response_id": 0}, "two", Compared("p", "b", "a")),
        ({"prompt": "p", "response_0": "a", "response_1": "b", "safer_response_id": 0}, "two",
         Compared("p", "a", "b")),
        (arena("model_b", "p"), "arena",
         Compared(user("p"), answer("b"), answer("a"))),
        (arena("tie (bothbad)", "p"), "arena",
         Neutral("tie")),
    ],
)  # fmt: skip
def test_public_shapes(values: dict[str, Any], layout: str, said: object) -> None:
    assert layout_of(values) == layout
    assert read_feedback(values, Reading()) == said


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({**BINARIZED, "chosen": talk("Why?", "so"), "rejected": talk("Why?", "so")}, "are the same"),
        ({**BINARIZED, "chosen": talk("Who?", "so"), "rejected": talk("Who?", "no")}, "another prompt"),
        ({**BINARIZED, "chosen": talk("Why?", "so"), "rejected": "no"}, "the other an answer"),
        ({**BINARIZED, "score_chosen": 1, "chosen": "a", "rejected": "b"}, "chosen is rated 1, below the 3"),
        ({**BINARIZED, "score_chosen": None, "chosen": "a", "rejected": "b"}, "not two numbers"),
        ({"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 2}, "is not 0 or 1"),
        (arena("model_b", "q"), "share no"),
        (arena("A", "p"), "is not model_a"),
    ],
)  # fmt: skip
def test_a_public_row_that_says_nothing_is_told_why(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_feedback(values, Reading())


RATE_BY: tuple[RateBy, ...] = ("aspects", "overall")


@pytest.mark.parametrize("by", RATE_BY)
def test_what_a_transcript_is_not(by: RateBy) -> None:
    """A prompt that only begins like one stays text."""
    row = {"prompt": "Human: is a word", "generations": ["a", "b"], "ratings": [1, 2]}
    assert read_listed(row, by).prompt == "Human: is a word"

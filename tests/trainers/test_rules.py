"""Rewards that are rules, against cases worked by hand."""

from __future__ import annotations

import pytest

from prefgen.errors import UsageError
from prefgen.messages import user
from trainers.rewards import Sample
from trainers.rules import column_of, final_answer, parse_rule, same_answer


def score(rule: str, completion: str, **columns: object) -> float | None:
    sample = Sample(user("q"), completion, columns=columns)  # type: ignore[arg-type]
    return parse_rule(rule)[1]([sample])[0]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so 3 and 4 give \\boxed{7}.", "7"),
        ("\\boxed{1} no, \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("Answer: 12 apples\nThat was 3 times 4.", "12 apples"),
        ("First answer: 5. On reflection\nThe answer is: 6", "6"),
        ("3 * 4 = 12\n#### 12", "12"),
        ("There are 3 boxes of 4, so 1,200 in all", "1,200"),
        ("It costs -$3.50", "-$3.50"),
        ("10-4", "4"),
        ("from 2010-2012", "2012"),
        ("Paris", "Paris"),
        ("an unclosed \\boxed{7", "7"),
    ],
)
def test_the_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1,000.0", "1000", True),
        ("$1000", "1000.", True),
        ("1/2", "0.5", True),
        ("50%", "50", True),
        ("-3", "3", False),
        ("0.1", "0.10", True),
        ("Paris.", "  paris ", True),
        ("New  York", "new york", True),
        ("5 km", "5", False),
        ("1/0", "1/0", True),
        ("1,2", "12", False),
        ("", "", False),
    ],
)
def test_answers_are_compared_by_value_and_else_as_text(one: str, other: str, same: bool) -> None:
    assert same_answer(one, other) is same
    assert same_answer(other, one) is same


def test_accuracy_reads_the_column_of_the_prompt() -> None:
    assert score("accuracy:answer", "I get 4. Answer: 4", answer=4) == 1
    assert score("accuracy:answer", "I get 4. Answer: 5", answer=4) == 0
    assert score("accuracy:answer", "Answer: 4") == 0
    assert column_of("accuracy:answer") == "answer"
    assert column_of("format:a:b") is None


def test_format_is_about_the_whole_completion() -> None:
    assert score(r"format:<a>.*</a>\d", " <a>x\ny</a>3\n") == 1
    assert score(r"format:<a>.*</a>\d", "<a>x</a>3 and more") == 0


@pytest.mark.parametrize(("words", "expected"), [(0, 0.5), (5, 1), (10, 1), (12, 0.8), (20, 0), (40, 0)])
def test_length_falls_off_outside_its_range(words: int, expected: float) -> None:
    # Of 5-10 words: none are 5 short, 1 - 5/10; 12 are 2 over, 1 - 2/10; 20 are 10 over.
    assert score("length:5-10", "word " * words) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("tone:kind", "expected format:REGEX"),
        ("format", "expected format:REGEX"),
        ("format:(", "no regular expression"),
        ("length:9-3", "LOW-HIGH"),
        ("length:long", "LOW-HIGH"),
    ],
)
def test_a_bad_rule_is_refused(rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_rule(rule)

"""From what a judge wrote to log-odds, or to the reason why there are none."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.evidence import (
    Reading,
    Unreadable,
    best_evidence,
    read_logprobs,
    read_score,
    read_vote,
    read_votes,
)
from prefgen.completion import Capabilities, Completion, FinishReason

AB = ("A", "B")
PARSE, TRUNCATED, REFUSAL = Unreadable("parse_failure"), Unreadable("truncated"), Unreadable("refusal")


def mass(**probabilities: float) -> Completion:
    return Completion("A", label_logprobs={word: math.log(p) for word, p in probabilities.items()})


def test_logprobs() -> None:
    found = read_logprobs(mass(A=0.6, B=0.3), AB)
    assert isinstance(found, Reading)
    assert found.log_odds == pytest.approx(math.log(2))
    assert found.coverage == pytest.approx(0.9)


@pytest.mark.parametrize(("a", "b", "read"), [(0.3, 0.19, False), (0.3, 0.21, True)])
def test_half_of_the_mass_must_be_on_the_two_words(a: float, b: float, read: bool) -> None:
    assert isinstance(read_logprobs(mass(A=a, B=b), AB), Reading) == read


def test_an_absent_word_gets_the_mass_that_is_left() -> None:
    found = read_logprobs(mass(B=0.8), AB)
    assert isinstance(found, Reading)
    assert found.log_odds == pytest.approx(math.log(0.2 / 0.8))
    sure = read_logprobs(mass(A=1.0), AB)
    assert isinstance(sure, Reading)
    assert sure.log_odds == pytest.approx(math.log(1e6))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6, 800.0, 0.5])
@pytest.mark.parametrize("word", AB)
def test_what_is_no_log_probability_is_unreadable(value: float, word: str) -> None:
    other = "B" if word == "A" else "A"
    assert read_logprobs(Completion("A", label_logprobs={word: value, other: -0.1}), AB) == PARSE


def test_minus_infinity_is_no_mass_and_rounding_is_allowed() -> None:
    found = read_logprobs(Completion("A", label_logprobs={"A": 1e-6, "B": -math.inf}), AB)
    assert isinstance(found, Reading)
    assert found.coverage == 1.0
    assert math.isfinite(found.log_odds)


@given(st.dictionaries(st.sampled_from(AB), st.floats(allow_nan=True, allow_infinity=True)))
def test_no_log_probabilities_break_anything(logprobs: dict[str, float]) -> None:
    found = read_logprobs(Completion("A", label_logprobs=logprobs), AB)
    assert isinstance(found, Unreadable) or math.isfinite(found.log_odds)


@pytest.mark.parametrize(("reason", "status"), [("stop", PARSE), ("refusal", REFUSAL)])
def test_no_log_probabilities_at_all(reason: FinishReason, status: Unreadable) -> None:
    assert read_logprobs(Completion("", reason), AB) == status


@given(st.floats(-9, 0), st.floats(-9, 0))
def test_exchanging_the_words_turns_the_sign(a: float, b: float) -> None:
    one = read_logprobs(Completion("", label_logprobs={"A": a, "B": b}), AB)
    other = read_logprobs(Completion("", label_logprobs={"A": b, "B": a}), AB)
    if isinstance(one, Reading):
        assert isinstance(other, Reading)
        assert one.log_odds == pytest.approx(-other.log_odds)


JSON_80 = '{"reason": "the first is clearer", "percent_a": 80}'


@pytest.mark.parametrize(
    "text",
    [
        JSON_80,
        f"```json\n{JSON_80}\n```",
        f"```\n{JSON_80}\n```\n",
        f"Let me think about this. Both are fine.\n\n{JSON_80}\n",
        f'{{"reason": "a draft", "percent_a": 10}}\n{JSON_80}',
        '{"percent_a": 80.0}',
        '{"reason": "it says {\\"percent_a\\": 3}", "percent_a": 80}',
        '{\n  "reason": "{ and }",\n  "percent_a": 80\n}',
    ],
)
def test_score(text: str) -> None:
    found = read_score(Completion(text), "percent_a")
    assert isinstance(found, Reading)
    assert found.log_odds == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        "80 percent for A",
        "[80]",
        '{"percent_a": true}',
        '{"percent_a": false}',
        '{"percent_a": "80"}',
        '{"percent_a": null}',
        '{"percent_a": [80]}',
        '{"percent_a": -1}',
        '{"percent_a": 101}',
        '{"percent_a": 1e999}',
        '{"percent_a": NaN}',
        '{"percent_a": Infinity}',
        '{"percent_a": ' + "9" * 5000 + "}",
        '{"percent_b": 80}',
        '{"percent_a": 80',
        '{"scores": {"percent_a": 80}}',
        '{"reason": "unescaped: {"percent_a": 99}", "percent_a": 10}',
        '{"percent_a": 80} is what I would say',
        "{" * 3000,
        '{"a":' * 3000,
        "[" * 100_000,
    ],
)
def test_a_score_that_cannot_be_read(text: str) -> None:
    assert read_score(Completion(text), "percent_a") == PARSE


@pytest.mark.parametrize(("percent", "expected"), [(0, -math.log(99)), (100, math.log(99)), (50, 0.0)])
def test_nobodys_certainty_is_infinite(percent: float, expected: float) -> None:
    found = read_score(Completion(json.dumps({"percent_a": percent})), "percent_a")
    assert isinstance(found, Reading)
    assert found.log_odds == pytest.approx(expected)


@given(st.text())
def test_no_text_breaks_a_reader(text: str) -> None:
    completion = Completion(text)
    assert isinstance(read_score(completion, "percent_a"), Reading | Unreadable)
    assert isinstance(read_vote(completion, AB), float | Unreadable)


@pytest.mark.parametrize(("reason", "status"), [("length", TRUNCATED), ("refusal", REFUSAL)])
def test_a_reply_that_was_stopped_is_not_read(reason: FinishReason, status: Unreadable) -> None:
    assert read_score(Completion(JSON_80, reason), "percent_a") == status
    assert read_vote(Completion("Verdict: A", reason), AB) == status
    assert read_votes([Completion("Verdict: A", reason)], AB) == status


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("Verdict: A", 1.0),
        ("verdict: b", 0.0),
        ("VERDICT: TIE", 0.5),
        ("Both are fine.\n\n**Verdict: A**", 1.0),
        ("**Verdict:** B.", 0.0),
        ("### Verdict: A", 1.0),
        ("Verdict : 'B'", 0.0),
        ("Verdict:\nA", 1.0),
        ("**Verdict:**\n\n**B**", 0.0),
        ("Final verdict: A", 1.0),
        ("Verdict: A\nOn reflection:\nVerdict: B", 0.0),
        ("Response A says:\n> Verdict: A\nwhich I ignore.\nVerdict: B", 0.0),
        ("Verdict: A\r\n", 1.0),
        ("Verdict: A\n\nThank you.", 1.0),
    ],
)
def test_vote(text: str, vote: float) -> None:
    assert read_vote(Completion(text), AB) == vote


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "I prefer A.",
        "Verdict:",
        "Verdict: C",
        "Verdict: A or B",
        "Verdict: neither",
        "my verdict is: A",
        "Verdict: Ａ",
        "Verdict: A\nVerdict: unclear",
        "The response says\nVerdict: B\nbut I say\nVerdict: response A",
        "Verdict: B\nFinal verdict: A, by far",
    ],
)
def test_a_vote_that_cannot_be_read(text: str) -> None:
    assert read_vote(Completion(text), AB) == PARSE


@pytest.mark.parametrize(
    "text", ["*" * 100_000, "verdict" + ":" * 50_000, "\n" * 100_000, "verdict\n" * 10_000]
)
def test_hostile_replies_are_read_in_linear_time(text: str) -> None:
    assert read_vote(Completion(text), AB) == PARSE


def test_yes_and_no() -> None:
    assert read_vote(Completion("Verdict: Yes"), ("yes", "no")) == 1.0
    assert read_vote(Completion("Verdict: no."), ("yes", "no")) == 0.0


def votes(*verdicts: str) -> list[Completion]:
    return [Completion(f"Verdict: {verdict}") for verdict in verdicts]


@pytest.mark.parametrize(
    ("verdicts", "log_odds"),
    [
        (("A",), math.log(1.5 / 0.5)),
        (("B",), -math.log(3)),
        (("tie",), 0.0),
        (("A", "A", "B"), math.log(2.5 / 1.5)),
        (("A", "tie"), math.log(2.0 / 1.0)),
        (("A", "A", "A", "A", "A"), math.log(5.5 / 0.5)),
        (("A", "B"), 0.0),
        (("A", "A", "nonsense"), math.log(2.5 / 0.5)),
    ],
)
def test_votes_by_jeffreys_rule(verdicts: tuple[str, ...], log_odds: float) -> None:
    found = read_votes(votes(*verdicts), AB)
    assert isinstance(found, Reading)
    assert found.log_odds == pytest.approx(log_odds)


@pytest.mark.parametrize("verdicts", [("x",), ("A", "x"), ("A", "x", "y"), ("A", "A", "x", "y")])
def test_more_than_half_of_the_votes_must_be_readable(verdicts: tuple[str, ...]) -> None:
    assert read_votes(votes(*verdicts), AB) == PARSE


@pytest.mark.parametrize(
    ("capabilities", "evidence"),
    [
        (Capabilities(), "logprobs"),
        (Capabilities(logprobs=True), "logprobs"),
        (Capabilities(logprobs=False), "score"),
        (Capabilities(logprobs=False, structured_output=True), "score"),
        (Capabilities(logprobs=False, structured_output=False), "votes"),
    ],
)
def test_the_best_evidence_a_model_gives(capabilities: Capabilities, evidence: str) -> None:
    assert best_evidence(capabilities) == evidence


@pytest.mark.parametrize(("structured", "evidence"), [(None, "score"), (True, "score"), (False, "votes")])
def test_where_no_word_is_an_answer_log_probabilities_are_no_evidence(
    structured: bool | None, evidence: str
) -> None:
    known = Capabilities(logprobs=True, structured_output=structured)
    assert best_evidence(known, words=False) == evidence

"""What a call is expected to take, by hand."""

from __future__ import annotations

import pytest

from prefgen.completion import Completion, CompletionRequest, Reply, Sampling
from prefgen.messages import user
from prefgen.pace import Size
from prefgen.tokens import TokenEstimate


def ask(characters: int, max_tokens: int = 100, draws: int = 1) -> CompletionRequest:
    return CompletionRequest(user("x" * characters), Sampling(max_tokens), tuple(range(draws)))


def test_before_any_reply_a_token_is_four_characters_and_answers_are_as_long_as_they_may() -> None:
    expected = TokenEstimate().expect(ask(400, max_tokens=50, draws=3))
    assert (expected.input_tokens, expected.output_tokens) == (pytest.approx(100), pytest.approx(150))


def test_means_over_what_was_told() -> None:
    """300 + 100 characters were 100 + 60 tokens; 80 of 200 allowed tokens were written."""
    estimate = TokenEstimate()
    estimate.learn(
        ask(300), Size(characters=300), Reply((Completion("", input_tokens=100, output_tokens=20),), "")
    )
    estimate.learn(
        ask(100), Size(characters=100), Reply((Completion("", input_tokens=60, output_tokens=60),), "")
    )
    expected = estimate.expect(ask(1000, max_tokens=10, draws=2))
    assert (expected.input_tokens, expected.output_tokens) == (pytest.approx(400), pytest.approx(8))


def test_a_reply_that_says_nothing_is_as_expected() -> None:
    estimate = TokenEstimate()
    expected = estimate.expect(ask(400))
    assert estimate.learn(ask(400), expected, Reply((Completion("x"),), "")) == expected
    assert estimate.expect(ask(400)) == expected

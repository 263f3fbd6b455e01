from __future__ import annotations

import pytest

from prefgen.messages import Message
from prefgen.transcript import parse_transcript, split_prompt


def human(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


@pytest.mark.parametrize(
    "text",
    [
        "\n\nHuman: hi\n\nAssistant: hello\nthere",
        "Human: hi\n\nAssistant: hello\nthere",
        "\r\n\r\nHuman: hi\r\n\r\nAssistant: hello\r\nthere\r\n",
        "\n\nHuman:hi\n\nAssistant:hello\nthere ",
    ],
)
def test_turns_of_a_transcript(text: str) -> None:
    assert parse_transcript(text) == (human("hi"), assistant("hello\nthere"))


def test_what_only_looks_like_a_turn_is_text() -> None:
    text = (
        "\n\nHuman: what does <b>Human: x</b> mean?\nAssistant: no turn\n\nAssistant: it\n\nhuman: still text"
    )
    assert [turn.content for turn in parse_transcript(text)] == [
        "what does <b>Human: x</b> mean?\nAssistant: no turn",
        "it\n\nhuman: still text",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no transcript"),
        ("just an answer", "no transcript"),
        ("System: be kind\n\nHuman: hi\n\nAssistant: yes", "text before the first"),
        ("\n\nAssistant: hello", "begins with Assistant"),
        ("\n\nHuman: hi", "ends with Human"),
        ("\n\nHuman: hi\n\nAssistant: yes\n\nHuman: bye", "ends with Human"),
    ],
)
def test_a_transcript_without_an_answer_is_none(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_transcript(text)


A, B, C, D = human("a"), assistant("b"), human("c"), assistant("d")


def test_the_prompt_is_what_both_begin_with() -> None:
    assert split_prompt((A, B, C, D), (A, B, C, assistant("e"))) == ((A, B, C), (D,), (assistant("e"),))
    assert split_prompt((A, B), (A, assistant("x"), C, D)) == ((A,), (B,), (assistant("x"), C, D))


@pytest.mark.parametrize(
    ("chosen", "rejected", "why"),
    [
        ((A, B), (C, D), "share no beginning"),
        ((A, B), (A, B), "are the same"),
        ((A, B), (A, B, C, D), "is the beginning of the other"),
        ((A, B, C, D), (A, B, human("x"), D), "turn 3 is not the assistant's"),
    ],
)
def test_conversations_that_are_no_pair(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        split_prompt(chosen, rejected)

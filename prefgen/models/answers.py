"""The answer alone: what a model wrote without its thinking and without the JSON we asked for."""

from __future__ import annotations

import contextlib
import json


def cut_thinking(text: str, opened: bool | None = None) -> str:
    """The answer after `<think>…</think>` at the head; empty where the thinking never ended.

    `opened`: whether the chat template wrote the opening tag, at the end of the prompt. None: not known;
    then an end without a beginning tells.
    """
    head, closed, answer = text.partition("</think>")
    if opened is None:
        opened = bool(closed) and "<think>" not in head
    return answer.lstrip() if opened or text.lstrip().startswith("<think>") else text


def answer_text(text: str, choices: tuple[str, ...]) -> str:
    """Without thinking, and a choice without the JSON of `choice_schema` around it."""
    answer = cut_thinking(text)
    if choices and answer not in choices:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            return str(json.loads(answer)["answer"])
    return answer


def choice_schema(choices: tuple[str, ...]) -> dict[str, object]:
    """The JSON that stands for one of `choices` where only objects can be asked for."""
    return {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }

"""A conversation: what models read and what trainers are given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

Role = Literal["system", "user", "assistant"]
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


Messages = tuple[Message, ...]


def as_dicts(messages: Iterable[Message]) -> list[dict[str, str]]:
    """The form that chat APIs, chat templates and trainers take: `[{"role", "content"}, …]`."""
    return [{"role": message.role, "content": message.content} for message in messages]


def user(text: str) -> Messages:
    return (Message("user", text),)


def parse_messages(value: object) -> Messages:
    """A string, or a list of `{"role", "content"}` ending with a user turn, as messages.

    Raises ValueError with what was seen and what was expected.
    """
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("the prompt is empty")
        return user(value)
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(
            f"a prompt is a string or a list of messages, not {type(value).__name__}: {value!r:.80}"
        )
    messages = tuple(_parse_message(item, position) for position, item in enumerate(value))
    if messages[-1].role == "assistant":
        raise ValueError("the last message is the assistant's, so there is nothing left to answer")
    return messages


def _parse_message(item: object, position: int) -> Message:
    if not isinstance(item, Mapping):
        raise ValueError(f"message {position} is not an object with role and content: {item!r:.80}")
    role, content = item.get("role"), item.get("content")
    if role not in get_args(Role):
        raise ValueError(f"message {position} has role {role!r}, expected one of {', '.join(get_args(Role))}")
    if not isinstance(content, str):
        raise ValueError(f"message {position} has content {content!r:.80}, expected a string")
    return Message(cast(Role, role), content)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Json) -> bytes:
    """One byte string per JSON value: keys sorted, no spaces, UTF-8."""
    return _CANONICAL.encode(value).encode()


def messages_hash(messages: Messages) -> str:
    return content_hash([dict(item) for item in as_dicts(messages)])


def content_hash(value: Json, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()[:length]

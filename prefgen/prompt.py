"""A prompt, and the file it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from prefgen.errors import InputError
from prefgen.messages import Json, Messages, messages_hash, parse_messages
from prefgen.records import identifier, read_records, require_columns, require_text
from prefgen.seen import Seen


@dataclass(frozen=True, slots=True)
class Prompt:
    """`columns`: the file's other columns, carried to the outputs."""

    id: str
    messages: Messages
    columns: Mapping[str, Json] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The conversation as one string: what a judge reads and what near-duplicates are sought in."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.messages)


def read_prompts(path: Path, text: str | None = None) -> Iterator[Prompt]:
    """The prompts of a file in its order. `text`: a column that must hold text in every row.

    A row without `id` gets the hash of its messages; the same row twice is then one id and an error,
    like any id given twice. Raises InputError.
    """
    with closing(Seen()) as seen:
        yield from _read(path, text, seen)


def _read(path: Path, text: str | None, seen: Seen) -> Iterator[Prompt]:
    for record in read_records(path):
        require_columns(path, record, "prompt")
        if text is not None:
            require_text(path, record, text)
        values = dict(record.values)
        try:
            messages = parse_messages(values.pop("prompt"))
        except ValueError as error:
            raise InputError(
                path,
                f"a prompt that cannot be used: {error}",
                line=record.line,
                expected='a non-empty string, or [{"role": "user", "content": "…"}]',
            ) from error
        given = values.pop("id", None)
        prompt_id = messages_hash(messages) if given is None else identifier(path, record, given)
        before = seen.first(prompt_id, record.line)
        if before is not None:
            what = "the same prompt" if given is None else f"the id {prompt_id!r}"
            raise InputError(
                path,
                f"{what} twice",
                line=record.line,
                seen=f"first on line {before}",
                expected="each id, and each prompt without id, once",
                fix="remove one, or give each row its own id",
            )
        yield Prompt(prompt_id, messages, values)

"""One side of a comparison: a model that answers, or a file of answers given before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.roles import Roles
from prefgen.candidate import Candidate
from prefgen.errors import InputError
from prefgen.messages import messages_hash, parse_messages
from prefgen.models import ModelSpec
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.records import SUFFIXES, Record, identifier, read_records, require_columns
from prefgen.sampling import SamplingPlan, sample


class Side(Protocol):
    """`answer` gives None where there is no answer, and never raises for a failed call."""

    async def answer(self, prompt: Prompt) -> Candidate | None: ...


@dataclass(frozen=True, slots=True)
class ModelSide:
    model: RecordedModel
    plan: SamplingPlan

    async def answer(self, prompt: Prompt) -> Candidate | None:
        found = await sample(prompt, [self.model], self.plan)
        return found.candidates[0] if found.candidates else None


@dataclass(frozen=True, slots=True)
class FileSide:
    """`texts`: answers by prompt id, None where the file says that there was none."""

    name: str
    texts: Mapping[str, str | None]

    async def answer(self, prompt: Prompt) -> Candidate | None:
        text = self.texts[prompt.id]
        return None if text is None else Candidate(prompt.id, text, self.name, 0)


async def answer(
    prompts: Sequence[Prompt], model: RecordedModel, plan: SamplingPlan
) -> list[Candidate | None]:
    """The first answer of a model to each prompt; None where the call failed."""
    side = ModelSide(model, plan)
    return list(await asyncio.gather(*(side.answer(prompt) for prompt in prompts)))


def as_file(side: str) -> Path | None:
    """The file a side names by its suffix; None: it is a MODEL."""
    path = Path(side)
    return path if path.suffix.lower() in SUFFIXES else None


def check_side(side: str, prompts: Sequence[Prompt]) -> None:
    """Raises UsageError where a side is neither a MODEL nor a file of answers to the prompts."""
    path = as_file(side)
    if path is None:
        ModelSpec.parse(side)
    else:
        read_answers(path, prompts)


async def open_side(side: str, prompts: Sequence[Prompt], plan: SamplingPlan, roles: Roles) -> Side:
    path = as_file(side)
    if path is not None:
        return FileSide(side, read_answers(path, prompts))
    return ModelSide(await roles.model(side), plan)


def read_answers(path: Path, prompts: Sequence[Prompt]) -> dict[str, str | None]:
    """The answer of a file to each of the prompts, by prompt id.

    A row belongs to the prompt of its `id`, else to the one of the same messages; rows of other prompts are
    left aside. Raises InputError, also where a prompt has no row.
    """
    by_hash = {messages_hash(prompt.messages): prompt.id for prompt in prompts}
    by_id = {prompt.id: messages_hash(prompt.messages) for prompt in prompts}
    answers: dict[str, str | None] = {}
    for record in read_records(path):
        name = _prompt_of(path, record, by_id, by_hash)
        if name in answers:
            raise InputError(path, f"a second answer to the prompt {name!r}", line=record.line)
        if name is not None:
            answers[name] = _response(path, record)
    missing = [prompt.id for prompt in prompts if prompt.id not in answers]
    if missing:
        raise InputError(
            path,
            f"no answer to {len(missing)} of {len(prompts)} prompts, the first being {missing[0]!r}",
            expected="a row for each prompt, with its id or its prompt",
            fix='write {"id": …, "response": null} where there is none; it then counts as failed',
        )
    return answers


def _prompt_of(
    path: Path, record: Record, by_id: Mapping[str, str], by_hash: Mapping[str, str]
) -> str | None:
    """The id of the prompt a row answers; None: it is not among those asked for."""
    values = record.values
    if values.get("prompt") is None:
        require_columns(path, record, "id")
    shown = _hash(path, record) if values.get("prompt") is not None else None
    if values.get("id") is None:
        return by_hash.get(shown or "")
    name = identifier(path, record, values["id"])
    if name not in by_id:
        return by_hash.get(shown or "")
    if shown is not None and shown != by_id[name]:
        raise InputError(
            path,
            f"the id {name!r} stands for another prompt",
            line=record.line,
            seen=values["prompt"],
            expected="the prompt of that id in the prompt file",
        )
    return name


def _hash(path: Path, record: Record) -> str:
    try:
        return messages_hash(parse_messages(record.values["prompt"]))
    except ValueError as error:
        raise InputError(path, f"a prompt that cannot be used: {error}", line=record.line) from error


def _response(path: Path, record: Record) -> str | None:
    require_columns(path, record, "response")
    text = record.values["response"]
    if text is not None and not isinstance(text, str):
        raise InputError(
            path, "response is not text", line=record.line, seen=text, expected="a string, or null"
        )
    return text

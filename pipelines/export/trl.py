"""TRL: the run's own rows, without the columns that its trainers would read as something else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, model_validator

from pipelines.export.schemas import OneReply, Reply, Strict, Turns, differ
from pipelines.export.target import Dataset, Essence, Row, Target, Text, Written
from prefgen.messages import Message, as_dicts
from prefgen.tables import MESSAGES

READ_FROM = "TRL 1.16.0: dataset_formats, and what its trainers do with each column"

# https://huggingface.co/docs/trl/dataset_formats: preference with explicit prompt, unpaired preference,
# prompt-only; each conversational or standard.
TextOrTurns = Turns | Annotated[str, Field(min_length=1)]
TextOrReply = OneReply | str


def _one_form(*texts: Any) -> None:
    if len({isinstance(text, str) for text in texts}) > 1:
        raise ValueError("strings and messages are mixed")


class TRLPair(Strict):
    prompt: TextOrTurns
    chosen: TextOrReply
    rejected: TextOrReply
    pair_id: str
    prompt_id: str

    @model_validator(mode="after")
    def _pair(self) -> TRLPair:
        _one_form(self.prompt, self.chosen, self.rejected)
        differ(_content(self.chosen), _content(self.rejected))
        return self


class TRLReward(TRLPair):
    margin: float


class TRLLabelled(Strict):
    prompt: TextOrTurns
    completion: TextOrReply
    label: bool
    prompt_id: str

    @model_validator(mode="after")
    def _labelled(self) -> TRLLabelled:
        _one_form(self.prompt, self.completion)
        return self


class TRLPrompt(Strict):
    prompt: TextOrTurns
    prompt_id: str
    reference: str | None = None


def _content(text: str | list[Reply]) -> str:
    return text if isinstance(text, str) else text[0].content


def messages_back(turns: Any) -> Text:
    return (
        turns if isinstance(turns, str) else tuple(Message(turn["role"], turn["content"]) for turn in turns)
    )


def reply_back(reply: Any) -> str:
    return reply if isinstance(reply, str) else str(reply[0]["content"])


def texts(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    """The prompt and the responses under their names, all as strings or all as messages."""
    if isinstance(row.prompt, str):
        return {"prompt": row.prompt, **dict(zip(names, row.responses, strict=True))}
    replies = ([{"role": "assistant", "content": text}] for text in row.responses)
    return {"prompt": as_dicts(row.prompt), **dict(zip(names, replies, strict=True))}


def pair_back(values: Mapping[str, Any]) -> Essence:
    replies = (reply_back(values["chosen"]), reply_back(values["rejected"]))
    return messages_back(values["prompt"]), replies, None


def pair(row: Row) -> dict[str, Any]:
    return {
        **texts(row, ("chosen", "rejected")),
        "pair_id": row.ids["pair_id"],
        "prompt_id": row.ids["prompt_id"],
    }


def reward(row: Row) -> dict[str, Any]:
    return {**pair(row), "margin": row.margin}


def _labelled(row: Row) -> dict[str, Any]:
    return {**texts(row, ("completion",)), "label": row.label, "prompt_id": row.ids["prompt_id"]}


def _labelled_back(values: Mapping[str, Any]) -> Essence:
    return messages_back(values["prompt"]), (reply_back(values["completion"]),), values["label"]


def _prompt(row: Row) -> dict[str, Any]:
    shaped = {**texts(row, ()), "prompt_id": row.ids["prompt_id"]}
    return shaped if row.reference is None else {**shaped, "reference": row.reference}


def _prompt_back(values: Mapping[str, Any]) -> Essence:
    return messages_back(values["prompt"]), (), values.get("reference")


def _table(*names: str) -> Any:
    kinds = {"label": pa.bool_(), "margin": pa.float64()}
    plain = {"pair_id", "prompt_id", "reference"}

    def schema(standard: bool, referenced: bool) -> pa.Schema:
        text = pa.string() if standard else MESSAGES
        fields = [(name, kinds.get(name, pa.string() if name in plain else text)) for name in names]
        return pa.schema([*fields, *([("reference", pa.string())] if referenced else [])])

    return schema


def _start(stage: str, written: Written, further: str = "") -> list[str]:
    weights = "".join(f" --{name} {value:g}" for name, value in written.weights.items())
    tested = " --eval_strategy steps --eval_steps 50" if "test" in written.files else ""
    return [
        f"trl {stage} --model_name_or_path MODEL --dataset_name {written.folder} --output_dir models/{stage}"
        f"{tested}{weights}{further}"
    ]


_PAIR = ("prompt", "chosen", "rejected", "pair_id", "prompt_id")
TARGETS: dict[Dataset, Target] = {
    "dpo": Target(
        READ_FROM,
        TRLPair,
        pair,
        pair_back,
        partial(_start, "dpo"),
        table=_table(*_PAIR),
        takes_text=True,
    ),
    "kto": Target(
        READ_FROM,
        TRLLabelled,
        _labelled,
        _labelled_back,
        partial(_start, "kto"),
        table=_table("prompt", "completion", "label", "prompt_id"),
        takes_text=True,
    ),
    "reward": Target(
        READ_FROM,
        TRLReward,
        reward,
        pair_back,
        partial(_start, "reward"),
        notes=("where there is a column margin, TRL asks of each pair a lead in reward as large",),
        table=_table(*_PAIR, "margin"),
        takes_text=True,
    ),
    "prompts": Target(
        READ_FROM,
        TRLPrompt,
        _prompt,
        _prompt_back,
        partial(_start, "grpo", further=" --reward_funcs YOUR_MODULE.YOUR_FUNCTION"),
        table=_table("prompt", "prompt_id"),
        takes_text=True,
    ),
}

"""LLaMA-Factory: sharegpt rows with `ranking` or `kto_tag`, dataset_info.json, and the start of a config.

Not its `openai` format: that one writes "detailed thinking off" into every system message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from pipelines.export.schemas import Strict, differ
from pipelines.export.target import Dataset, Essence, Row, Target, Text, Written
from prefgen.messages import Message, Role

READ_FROM = "LLaMA-Factory 0.9.5: data/converter.py (sharegpt), data/parser.py, data/loader.py"


# data/README.md, "Sharegpt format"; src/llamafactory/data/converter.py, SharegptDatasetConverter.
class Said(Strict):
    speaker: Literal["system", "human", "gpt"] = Field(alias="from")
    value: str


class Answer(Strict):
    speaker: Literal["gpt"] = Field(alias="from")
    value: str


def _in_turns(said: list[Said], last: str) -> None:
    """`SharegptDatasetConverter` drops a row that breaks this, with one line in the log."""
    turns = [turn.speaker for turn in said]
    turns = turns[1:] if turns[:1] == ["system"] else turns
    if "system" in turns:
        raise ValueError("a system message that is not the first one, which LLaMA-Factory drops the row for")
    if not turns or turns[-1] != last or any(who != ("human", "gpt")[n % 2] for n, who in enumerate(turns)):
        raise ValueError(
            "user and assistant do not take turns, beginning with the user, which LLaMA-Factory drops the "
            "row for"
        )


class LlamaFactoryPair(Strict):
    conversations: list[Said]
    chosen: Answer
    rejected: Answer
    pair_id: str
    prompt_id: str

    @model_validator(mode="after")
    def _pair(self) -> LlamaFactoryPair:
        _in_turns(self.conversations, "human")
        differ(self.chosen.value, self.rejected.value)
        return self


class LlamaFactoryLabelled(Strict):
    conversations: list[Said]
    kto_tag: bool
    prompt_id: str

    @model_validator(mode="after")
    def _labelled(self) -> LlamaFactoryLabelled:
        _in_turns(self.conversations, "gpt")
        if not self.conversations[-1].value:
            raise ValueError("an empty response: LLaMA-Factory takes every empty one for undesirable")
        return self


_SPEAKER: dict[Role, str] = {"system": "system", "user": "human", "assistant": "gpt"}
_ROLE: dict[str, Role] = {speaker: role for role, speaker in _SPEAKER.items()}
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "system_tag": "system",
}


def _said(prompt: Text) -> list[dict[str, str]]:
    assert not isinstance(prompt, str)
    return [{"from": _SPEAKER[turn.role], "value": turn.content} for turn in prompt]


def _said_back(said: Any) -> Text:
    return tuple(Message(_ROLE[turn["from"]], turn["value"]) for turn in said)


def _pair(row: Row) -> dict[str, Any]:
    chosen, rejected = ({"from": "gpt", "value": text} for text in row.responses)
    return {"conversations": _said(row.prompt), "chosen": chosen, "rejected": rejected, **row.ids}


def _pair_back(values: Mapping[str, Any]) -> Essence:
    return _said_back(values["conversations"]), (values["chosen"]["value"], values["rejected"]["value"]), None


def _labelled(row: Row) -> dict[str, Any]:
    said = [*_said(row.prompt), {"from": "gpt", "value": row.responses[0]}]
    return {"conversations": said, "kto_tag": row.label, **row.ids}


def _labelled_back(values: Mapping[str, Any]) -> Essence:
    *prompt, answer = values["conversations"]
    return _said_back(prompt), (answer["value"],), values["kto_tag"]


def _name(dataset: str, split: str) -> str:
    return f"prefgen_{dataset}_{split}"


def _config(dataset: str, stage: str, written: Written) -> dict[str, str]:
    columns = {"messages": "conversations"}
    columns |= {"kto_tag": "kto_tag"} if dataset == "kto" else {"chosen": "chosen", "rejected": "rejected"}
    info = {
        _name(dataset, split): {
            "file_name": file,
            "formatting": "sharegpt",
            **({} if dataset == "kto" else {"ranking": True}),
            "columns": columns,
            "tags": _TAGS,
        }
        for split, file in written.files.items()
    }
    settings: dict[str, Any] = {
        "model_name_or_path": "MODEL",
        "template": "TEMPLATE",
        "stage": stage,
        "do_train": True,
        "dataset_dir": ".",
        "dataset": _name(dataset, "train"),
        "cutoff_len": 2048,
        "output_dir": f"models/{dataset}",
    }
    if "test" in written.files:
        settings |= {"eval_dataset": _name(dataset, "test"), "eval_strategy": "steps", "eval_steps": 50}
    weights = {"desirable_weight": "kto_chosen_weight", "undesirable_weight": "kto_rejected_weight"}
    settings |= {weights[name]: value for name, value in written.weights.items()}
    return {
        "dataset_info.json": json.dumps(info, indent=2) + "\n",
        "train.yaml": yaml.safe_dump(settings, sort_keys=False),
    }


def _start(written: Written) -> list[str]:
    return [
        f"cd {written.folder}    # put your model and the name of its template into train.yaml",
        "llamafactory-cli train train.yaml",
    ]


_NOTES = ("LLaMA-Factory cuts what is longer than cutoff_len tokens from the end of both responses",)
TARGETS: dict[Dataset, Target] = {
    "dpo": Target(
        READ_FROM,
        LlamaFactoryPair,
        _pair,
        _pair_back,
        _start,
        partial(_config, "dpo", "dpo"),
        _NOTES,
    ),
    "kto": Target(
        READ_FROM,
        LlamaFactoryLabelled,
        _labelled,
        _labelled_back,
        _start,
        partial(_config, "kto", "kto"),
        _NOTES,
    ),
    "reward": Target(
        READ_FROM,
        LlamaFactoryPair,
        _pair,
        _pair_back,
        _start,
        partial(_config, "reward", "rm"),
        _NOTES,
    ),
}

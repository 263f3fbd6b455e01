"""axolotl: messages through the model's own chat template for pairs, its ChatML strategy for KTO."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import yaml

from pipelines.export import schemas
from pipelines.export.target import Dataset, Essence, Row, Target, Written
from pipelines.export.trl import messages_back
from prefgen.messages import as_dicts, user

READ_FROM = (
    "axolotl 0.19.0: prompt_strategies/dpo/chat_template.py, kto/chatml.py, bradley_terry/chat_template.py"
)


def _messages(row: Row) -> list[dict[str, str]]:
    assert not isinstance(row.prompt, str)
    return as_dicts(row.prompt)


def _pair(row: Row) -> dict[str, Any]:
    chosen, rejected = ({"role": "assistant", "content": text} for text in row.responses)
    return {"messages": _messages(row), "chosen": chosen, "rejected": rejected}


def _pair_back(values: Mapping[str, Any]) -> Essence:
    replies = (values["chosen"]["content"], values["rejected"]["content"])
    return messages_back(values["messages"]), replies, None


def _labelled(row: Row) -> dict[str, Any]:
    said = [*_messages(row), {"role": "assistant", "content": row.responses[0]}]
    return {"completion": said, "label": row.label}


def _labelled_back(values: Mapping[str, Any]) -> Essence:
    *prompt, answer = values["completion"]
    return messages_back(prompt), (answer["content"],), values["label"]


def _reward(row: Row) -> dict[str, Any]:
    """It reads a column `system`, and where that is empty puts an empty system message before the prompt;
    the config says to drop them, which holds for all rows."""
    turns = _messages(row)
    if [turn["role"] for turn in turns] != ["user"]:
        raise ValueError("a prompt that is not one user message, which is all axolotl's reward trainer takes")
    chosen, rejected = row.responses
    return {"system": "", "input": turns[0]["content"], "chosen": chosen, "rejected": rejected}


def _reward_back(values: Mapping[str, Any]) -> Essence:
    return user(values["input"]), (values["chosen"], values["rejected"]), None


def _config(settings: Mapping[str, Any], kind: Mapping[str, Any], written: Written) -> dict[str, str]:
    def named(split: str) -> list[dict[str, Any]]:
        return [{"path": written.files[split], "ds_type": "json", "split": "train", **kind}]

    whole: dict[str, Any] = {"base_model": "MODEL", **settings, "datasets": named("train")}
    if "test" in written.files:
        whole["test_datasets"] = named("test")
    whole |= {f"kto_{name}": value for name, value in written.weights.items()}
    whole |= {"sequence_len": 2048, "output_dir": "models/axolotl"}
    return {"train.yaml": yaml.safe_dump(whole, sort_keys=False)}


def _start(written: Written) -> list[str]:
    return [f"cd {written.folder}    # put your model into train.yaml", "axolotl train train.yaml"]


_OWN_TEMPLATE = {"chat_template": "tokenizer_default"}
_FIELDS = {"field_messages": "messages", "field_chosen": "chosen", "field_rejected": "rejected"}
TARGETS: dict[Dataset, Target] = {
    "dpo": Target(
        READ_FROM,
        schemas.AxolotlPair,
        _pair,
        _pair_back,
        _start,
        partial(_config, {"rl": "dpo", **_OWN_TEMPLATE}, {"type": "chat_template.default", **_FIELDS}),
        ("rl: dpo may be ipo or simpo too; pairs longer than sequence_len are dropped by axolotl",),
    ),
    "kto": Target(
        READ_FROM,
        schemas.AxolotlLabelled,
        _labelled,
        _labelled_back,
        _start,
        partial(_config, {"rl": "kto"}, {"type": "chatml.argilla_chat"}),
        (
            "axolotl's KTO knows two chat formats and not the model's own: the config says ChatML; for a "
            "Llama 3 model change the type to llama3.argilla_chat, for others use --for trl",
        ),
    ),
    "reward": Target(
        READ_FROM,
        schemas.AxolotlReward,
        _reward,
        _reward_back,
        _start,
        partial(
            _config,
            {
                "reward_model": True,
                "model_type": "AutoModelForSequenceClassification",
                "num_labels": 1,
                **_OWN_TEMPLATE,
            },
            {"type": "bradley_terry.chat_template", "drop_system_message": True},
        ),
    ),
}

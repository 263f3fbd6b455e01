"""axolotl: messages through the model's own chat template for pairs, its ChatML strategy for KTO."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from pipelines.export.schemas import Strict, Turn, Turns, differ
from pipelines.export.target import Dataset, Essence, Row, Target, Written
from pipelines.export.trl import messages_back
from prefgen.messages import as_dicts, user

READ_FROM = (
    "axolotl 0.19.0: prompt_strategies/dpo/chat_template.py, kto/chatml.py, bradley_terry/chat_template.py"
)

# docs/rlhf.qmd; prompt_strategies/dpo/chat_template.py, kto/chatml.py, bradley_terry/chat_template.py.
_BEFORE_A_REPLY = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n[[dummy_message]]<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n[[dummy_message]]"
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "<s>[INST] [[dummy_message]] [/INST]",
    "<bos><start_of_turn>user\n[[dummy_message]]<end_of_turn>\n<start_of_turn>model\n",
    "<|user|>\n[[dummy_message]]<|end|>\n<|assistant|>\n",
)
"""What stands before a response where `chat_template.default` looks for it, in usual chat templates."""


def _findable(content: str) -> str:
    """It renders a chat around each response and cuts at the first place where the response's text stands."""
    if content != content.strip() or not content:
        raise ValueError(
            "a response that is empty or has white space around it: where the chat template trims it, "
            "axolotl does not find it and trains on something else"
        )
    if any(content in before for before in _BEFORE_A_REPLY):
        raise ValueError(
            f"the response {content!r} also stands in chat templates, where axolotl would cut instead"
        )
    return content


class FindableReply(Strict):
    role: Literal["assistant"]
    content: Annotated[str, AfterValidator(_findable)]


class AxolotlPair(Strict):
    messages: Turns
    chosen: FindableReply
    rejected: FindableReply

    @model_validator(mode="after")
    def _pair(self) -> AxolotlPair:
        differ(self.chosen.content, self.rejected.content)
        return self


class AxolotlLabelled(Strict):
    completion: Annotated[list[Turn], Field(min_length=2)]
    label: bool

    @model_validator(mode="after")
    def _labelled(self) -> AxolotlLabelled:
        if self.completion[-1].role != "assistant":
            raise ValueError("the conversation does not end with the assistant")
        return self


class AxolotlReward(Strict):
    system: Literal[""]
    input: str
    chosen: str
    rejected: str

    @model_validator(mode="after")
    def _pair(self) -> AxolotlReward:
        differ(self.chosen, self.rejected)
        return self


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
        AxolotlPair,
        _pair,
        _pair_back,
        _start,
        partial(_config, {"rl": "dpo", **_OWN_TEMPLATE}, {"type": "chat_template.default", **_FIELDS}),
        ("rl: dpo may be ipo or simpo too; pairs longer than sequence_len are dropped by axolotl",),
    ),
    "kto": Target(
        READ_FROM,
        AxolotlLabelled,
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
        AxolotlReward,
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

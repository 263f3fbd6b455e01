"""What each trainer asks of a row, as its documentation and its loader say it, strictly.

Rules that go beyond types name what the trainer would do instead: drop the row, or train on something else,
without a word.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Turn(Strict):
    role: Literal["system", "user", "assistant"]
    content: str


class Reply(Strict):
    role: Literal["assistant"]
    content: str


Turns = Annotated[list[Turn], Field(min_length=1)]
OneReply = Annotated[list[Reply], Field(min_length=1, max_length=1)]


def _differ(left: str, right: str) -> None:
    if left.strip() == right.strip():
        raise ValueError("chosen and rejected are the same text")


# -------------------------------------------------------------------------------------------------------- TRL
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
        _differ(_content(self.chosen), _content(self.rejected))
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


# ---------------------------------------------------------------------------------------------- LLaMA-Factory
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
        _differ(self.chosen.value, self.rejected.value)
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


# ---------------------------------------------------------------------------------------------------- axolotl
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
        _differ(self.chosen.content, self.rejected.content)
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
        _differ(self.chosen, self.rejected)
        return self


# --------------------------------------------------------------------------------------------------- OpenRLHF
# README.md, "Prepare Datasets"; openrlhf/datasets/reward_dataset.py and prompts_dataset.py.


class OpenRLHFPair(Strict):
    prompt: Turns
    chosen: OneReply
    rejected: OneReply
    pair_id: str
    prompt_id: str

    @model_validator(mode="after")
    def _pair(self) -> OpenRLHFPair:
        _differ(self.chosen[0].content, self.rejected[0].content)
        return self


class OpenRLHFReward(OpenRLHFPair):
    margin: float


class OpenRLHFPrompt(Strict):
    prompt: Turns
    label: str
    datasource: str

    @model_validator(mode="after")
    def _text_only(self) -> OpenRLHFPrompt:
        if any("<image>" in turn.content for turn in self.prompt):
            raise ValueError("a prompt with the text <image>, which OpenRLHF reads as a picture")
        return self


# ---------------------------------------------------------------------------------------------------- NeMo RL
# docs/guides/dpo.md and rm.md; nemo_rl/data/processors.py, preference_preprocessor.


class RankedCompletion(Strict):
    rank: Literal[0, 1]
    completion: OneReply


class NeMoPair(Strict):
    context: Turns
    completions: Annotated[list[RankedCompletion], Field(min_length=2, max_length=2)]
    pair_id: str
    prompt_id: str

    @model_validator(mode="after")
    def _pair(self) -> NeMoPair:
        if [item.rank for item in self.completions] != [0, 1]:
            raise ValueError("the completions are not ranked 0 and 1, and NeMo RL takes no ties")
        _differ(*(item.completion[0].content for item in self.completions))
        return self


# ------------------------------------------------------------------------------------------------------- verl
# docs/preparation/prepare_data.rst; verl/utils/dataset/rl_dataset.py, verl/workers/reward_manager/naive.py.


class RewardModelField(Strict):
    style: Literal["rule", "model"]
    ground_truth: str


class ExtraInfo(Strict):
    split: Literal["train", "test"]
    index: int
    prompt_id: str
    columns: str


class VerlPrompt(Strict):
    data_source: Literal["prefgen"]
    prompt: Turns
    ability: str
    reward_model: RewardModelField
    extra_info: ExtraInfo

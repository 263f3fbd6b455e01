"""OpenRLHF: DPO, reward model and prompts; it has no KTO since 0.9.6."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import model_validator

from pipelines.export.schemas import OneReply, Strict, Turns, differ
from pipelines.export.target import Dataset, Essence, Row, Target, Written
from pipelines.export.trl import messages_back, pair, pair_back, reward
from prefgen.messages import as_dicts

READ_FROM = "OpenRLHF 0.11.2: datasets/reward_dataset.py, datasets/prompts_dataset.py, cli/train_dpo.py"


# README.md, "Prepare Datasets"; openrlhf/datasets/reward_dataset.py and prompts_dataset.py.
class OpenRLHFPair(Strict):
    prompt: Turns
    chosen: OneReply
    rejected: OneReply
    pair_id: str
    prompt_id: str

    @model_validator(mode="after")
    def _pair(self) -> OpenRLHFPair:
        differ(self.chosen[0].content, self.rejected[0].content)
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


def _prompt(row: Row) -> dict[str, Any]:
    assert not isinstance(row.prompt, str)
    return {"prompt": as_dicts(row.prompt), "label": row.reference or "", "datasource": "prefgen"}


def _prompt_back(values: Mapping[str, Any]) -> Essence:
    return messages_back(values["prompt"]), (), values["label"] or None


def _start(stage: str, written: Written) -> list[str]:
    tested = f" --eval.dataset {written.path('test')} --eval.split train" if "test" in written.files else ""
    return [
        f"deepspeed --module openrlhf.cli.train_{stage} --model.model_name_or_path MODEL "
        f"--data.dataset {written.path('train')}{tested} --data.prompt_key prompt --data.chosen_key chosen "
        "--data.rejected_key rejected --data.apply_chat_template --data.max_len 2048"
    ]


def _start_prompts(written: Written) -> list[str]:
    return [
        f"python3 -m openrlhf.cli.train_ppo_ray --data.prompt_dataset {written.path('train')} "
        "--data.input_key prompt --data.label_key label --data.apply_chat_template …"
    ]


_NOTES = (
    "--data.max_len is 512 unless given; longer prompts are dropped and longer responses cut by OpenRLHF, so "
    "that a pair may differ no more",
)
TARGETS: dict[Dataset, Target] = {
    "dpo": Target(READ_FROM, OpenRLHFPair, pair, pair_back, partial(_start, "dpo"), notes=_NOTES),
    "reward": Target(
        READ_FROM,
        OpenRLHFReward,
        reward,
        pair_back,
        partial(_start, "rm"),
        notes=(*_NOTES, "the margins count with --model.margin_loss_enable only"),
    ),
    "prompts": Target(
        READ_FROM,
        OpenRLHFPrompt,
        _prompt,
        _prompt_back,
        _start_prompts,
        notes=("the rest of the line (models, rewards, resources) is yours to fill in",),
    ),
}

"""verl trains by reinforcement only: it takes prompts, with a reference answer where the run has one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa

from pipelines.export.schemas import Strict, Turns
from pipelines.export.target import Dataset, Essence, Row, Target, Written
from pipelines.export.trl import messages_back
from prefgen.messages import as_dicts
from prefgen.tables import MESSAGES

READ_FROM = "verl 0.9.1: utils/dataset/rl_dataset.py, workers/reward_manager/naive.py, trainer/config"


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


def _prompt(row: Row) -> dict[str, Any]:
    assert not isinstance(row.prompt, str)
    return {
        "data_source": "prefgen",
        "prompt": as_dicts(row.prompt),
        "ability": "chat",
        "reward_model": {
            "style": "model" if row.reference is None else "rule",
            "ground_truth": row.reference or "",
        },
        "extra_info": {
            "split": row.ids["split"],
            "index": row.line - 1,
            "prompt_id": row.ids["prompt_id"],
            "columns": json.dumps(dict(row.columns), ensure_ascii=False),
        },
    }


def _prompt_back(values: Mapping[str, Any]) -> Essence:
    return messages_back(values["prompt"]), (), values["reward_model"]["ground_truth"] or None


def _table(standard: bool, referenced: bool) -> pa.Schema:
    text, struct = pa.string(), pa.struct
    return pa.schema(
        [
            ("data_source", text),
            ("prompt", MESSAGES),
            ("ability", text),
            ("reward_model", struct([("style", text), ("ground_truth", text)])),
            (
                "extra_info",
                struct([("split", text), ("index", pa.int64()), ("prompt_id", text), ("columns", text)]),
            ),
        ]
    )


def _start(written: Written) -> list[str]:
    tested = written.path("test" if "test" in written.files else "train")
    return [
        f"python3 -m verl.trainer.main_ppo data.train_files={written.path('train')} data.val_files={tested} "
        "actor_rollout_ref.model.path=MODEL reward.custom_reward_function.path=YOUR_REWARD.py …"
    ]


TARGETS: dict[Dataset, Target] = {
    "prompts": Target(
        READ_FROM,
        VerlPrompt,
        _prompt,
        _prompt_back,
        _start,
        notes=(
            "verl 0.9.1 trains on no pairs (its documentation has a page on how to write DPO yourself); it "
            "gets the prompts, and your reward function or reward model says what is good",
            "prompts longer than data.max_prompt_length, 512 tokens unless given, are dropped by verl",
        ),
        table=_table,
    )
}

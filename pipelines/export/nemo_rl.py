"""NeMo RL: `context` and ranked `completions` for its PreferenceDataset, used by DPO and reward models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from pipelines.export.schemas import OneReply, Strict, Turns, differ
from pipelines.export.target import Dataset, Essence, Row, Target, Written
from pipelines.export.trl import messages_back, reply_back
from prefgen.messages import as_dicts

READ_FROM = (
    "NeMo RL, repository at 566c178e (2026): data/datasets/preference_datasets/preference_dataset.py, "
    "data/processors.py, docs/guides/dpo.md, examples/configs/dpo.yaml"
)


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
        differ(*(item.completion[0].content for item in self.completions))
        return self


def _pair(row: Row) -> dict[str, Any]:
    assert not isinstance(row.prompt, str)
    ranked = [
        {"rank": rank, "completion": [{"role": "assistant", "content": text}]}
        for rank, text in enumerate(row.responses)
    ]
    return {"context": as_dicts(row.prompt), "completions": ranked, **row.ids}


def _pair_back(values: Mapping[str, Any]) -> Essence:
    ranked = sorted(values["completions"], key=lambda item: int(item["rank"]))
    return messages_back(values["context"]), tuple(reply_back(item["completion"]) for item in ranked), None


def _config(written: Written) -> dict[str, str]:
    data: dict[str, Any] = {
        split: {"dataset_name": "PreferenceDataset", "data_path": written.files[file], "split": "train"}
        for split, file in (("train", "train"), ("validation", "test"))
        if file in written.files
    }
    data["default"] = {"prompt_file": None, "system_prompt_file": None}
    text = yaml.safe_dump({"data": data}, sort_keys=False)
    return {"data.yaml": f"# For the config of NeMo RL; make the paths absolute.\n{text}"}


def _start(stage: str, written: Written) -> list[str]:
    files = {"train": "train", "validation": "test" if "test" in written.files else "train"}
    given = " ".join(
        f"data.{split}.dataset_name=PreferenceDataset +data.{split}.data_path={written.path(file)} "
        f"data.{split}.split=train"
        for split, file in files.items()
    )
    return [
        f"uv run examples/run_{stage}.py --config examples/configs/{stage}.yaml policy.model_name=MODEL "
        f"{given}    # in a checkout of NeMo RL"
    ]


TARGETS: dict[Dataset, Target] = {
    "dpo": Target(READ_FROM, NeMoPair, _pair, _pair_back, partial(_start, "dpo"), _config),
    "reward": Target(READ_FROM, NeMoPair, _pair, _pair_back, partial(_start, "rm"), _config),
}

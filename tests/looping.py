"""A loop without weights: a policy that is a number in a file, a trainer that raises it, judges that count.

The policy writes longer answers the higher its number. It is put in the place of transformers' adapter, and
the trainer in the place of DPO's, so that everything between them is the real thing.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import some_prompts

import prefgen.models.scripted
import prefgen.models.transformers
from pipelines.evaluation import numbers
from pipelines.rlaif import stages
from prefgen.completion import Completion, CompletionRequest
from prefgen.files import write_json
from prefgen.models.local import weights_identity
from prefgen.models.scripted import ScriptedModel
from trainers.dpo import DPOConfig
from trainers.folder import Beginning, begin, check_free, is_complete
from trainers.report import ReloadCheck, TrainingReport

WORDS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
]
FENCED = re.compile(r"<(response(?:_[A-Z])?-\w+)>\n(.*?)\n</\1>", re.DOTALL)


def make_policy(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"number": number}))
    return folder


async def open_policy(path: str, spec: str, options: Mapping[str, Any] | None = None) -> ScriptedModel:
    """In the place of `open_transformers`."""
    number = json.loads((Path(path) / "config.json").read_text())["number"]

    def answer(request: CompletionRequest, sample: int) -> str:
        seed = (request.sampling.seed or 0) + sample
        return " ".join(WORDS[: number + (seed % 5 if request.sampling.temperature else 0)])

    model = ScriptedModel(answer, spec, latency=float(os.environ.get("LATENCY", 0)))
    model.identity = f"transformers:{weights_identity(path, Path(path))}"
    return model


def open_judge(name: str, options: Mapping[str, Any] | None = None) -> ScriptedModel:
    """In the place of `open_scripted`: `long` likes many words, `short` few, `six` six."""
    taste: Callable[[int], int] = {"long": lambda n: n, "short": lambda n: -n, "six": lambda n: -abs(n - 6)}[
        name
    ]

    def answer(request: CompletionRequest, sample: int) -> Completion:
        shown = [taste(len(text.split())) for _, text in FENCED.findall(request.messages[0].content)]
        odds = shown[0] - shown[1]
        first, second = request.label_words
        told = {first: -_softplus(-odds), second: -_softplus(odds)}
        return Completion(first if odds > 0 else second, label_logprobs=told)

    return ScriptedModel(answer, f"scripted/{name}", latency=float(os.environ.get("LATENCY", 0)))


def _softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def train(config: DPOConfig, on_log: Any = None, **options: Any) -> Path:
    """In the place of `train_dpo`: three steps, each with a file, and the report last."""
    beginning = Beginning(stage="dpo", config=config.model_dump(mode="json"), inputs={})
    check_free(config, beginning)
    if config.resume and is_complete(config.out):
        return config.out
    begin(config, beginning)
    for step in range(3):
        (config.out / f"step-{step}").write_text("")
        time.sleep(float(os.environ.get("LATENCY", 0)))
    before = json.loads((Path(config.model) / "config.json").read_text())["number"]
    make_policy(config.out, before + int(os.environ.get("RAISE", 1)))
    report = TrainingReport(
        stage="dpo", config=beginning.config, inputs={}, settings={}, counts={}, warnings=[], steps=3,
        stopped_early=False, first_loss=None, first_eval=None, last_eval=None, frozen_sha256=None,
        reload=ReloadCheck(rows=0, max_difference=0.0), seconds=0.0, versions={},
    )  # fmt: skip
    write_json(config.out / "training.json", report.model_dump(mode="json"))
    return config.out


def install(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prefgen.models.transformers, "open_transformers", open_policy)
    patch.setattr(prefgen.models.scripted, "open_scripted", open_judge)
    patch.setitem(stages.STAGES, "dpo", stages.LoopStage(DPOConfig, train))
    # Intervals are tested elsewhere.
    patch.setattr(numbers, "RESAMPLES", 100)
    patch.setattr(numbers, "_REFITS", 20)


def write_config(folder: Path, prompts: int = 8, **changes: Any) -> Path:
    """A loop in `folder`. `changes`: values of the file; a mapping is laid over the block of that name."""
    make_policy(folder / "policy", 5)
    some_prompts(folder / "prompts.jsonl", prompts)
    held_out = [f'{{"prompt": "Held-out question {number}?"}}\n' for number in range(10)]
    (folder / "heldout.jsonl").write_text("".join(held_out))
    values: dict[str, Any] = {
        "policy": "transformers/policy",
        "prompts": "prompts.jsonl",
        "rounds": 2,
        "generate": {
            "judge": "scripted/long",
            "n": 4,
            "planted": 0,
            "ledger": "ledger.sqlite",
            "concurrency": 4,
        },
        "train": {"stage": "dpo"},
        "evaluate": {"prompts": "heldout.jsonl", "judge": "scripted/short"},
        "stop": {"length_ratio": None, "gaming_rounds": None, "no_gain_rounds": None},
    }
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
    path = folder / "rlaif.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


if __name__ == "__main__":
    import sys

    from pipelines.cli import main

    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        main(sys.argv[1:])

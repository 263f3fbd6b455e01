"""`prefgen train reward`: one reward model or an ensemble of them, and what they are worth on held-out pairs.

```
OUT/heldout.json               accuracy, calibration, correlation with length
OUT/ensemble.json              names the members and their scales; with --members only
OUT/member-1, member-2 …       a training folder each
```
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pydantic import Field

from judges.intervals import Array
from pipelines.reward_quality import Rewarded, quality
from prefgen.errors import GateError, UsageError
from prefgen.files import write_json
from prefgen.messages import Messages, user
from prefgen.models import open_reward_model
from prefgen.models.ensemble import FILE, Ensemble, EnsembleUse, Member
from trainers import folder, loading, processes
from trainers.fingerprint import hash_files
from trainers.monitor import OnLog
from trainers.prepare import prepare
from trainers.report import TrainingReport, read_report
from trainers.reward import RewardConfig, reward_stage, train_reward
from trainers.rows import Row, Text, find_files

REPORT = "heldout.json"
Said: TypeAlias = tuple[Messages, str]
"""A prompt and a response, as a reward model takes them."""
ENOUGH = 20
"""Held-out pairs from which members are put on one scale by them; below it, by training pairs."""
MOST = 200


class RewardModelConfig(RewardConfig):
    """Options of `prefgen train reward`."""

    members: int = Field(default=1, ge=1)
    """Train so many reward models that differ by their seed, to be used as one: see --reward-ensemble."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """`said`: of all pairs the chosen sides, then the rejected ones; `prompts`: each pair's prompt hash."""

    said: list[Said]
    prompts: list[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Pairs:
        sides = [_said(row.prompt, row.completions[side]) for side in (0, 1) for row in rows]
        return cls(sides, [row.prompt_hash for row in rows])

    def rewarded(self, rewards: Array) -> Rewarded:
        """`rewards`: shape (2 n,), as `said`."""
        lengths = np.array([float(len(text)) for _, text in self.said])
        n = len(self.prompts)
        return Rewarded(rewards[:n], rewards[n:], lengths[:n], lengths[n:], self.prompts)


def _said(prompt: Text, completion: Text) -> Said:
    turns = user(prompt) if isinstance(prompt, str) else prompt
    if isinstance(completion, str):
        return turns, completion
    return (*turns, *completion[:-1]), completion[-1].content


def train_reward_models(config: RewardModelConfig, on_log: OnLog | None = None) -> Path:
    """Trains and measures; returns `config.out`. Raises as `train_reward`."""
    plain = RewardConfig.model_validate(config.model_dump(exclude={"members"}, exclude_unset=True))
    if config.members > 1 and config.accelerate is not None:
        raise UsageError("--members trains one model after the other in one process: leave --accelerate out")
    if config.members > 1:
        return _train_ensemble(config, plain, on_log)
    out = train_reward(plain, on_log)
    if processes.is_main() and not (out / REPORT).is_file():
        pairs, _ = held_out_pairs(plain)
        write_json(out / REPORT, quality(pairs.rewarded(_rewards(out, pairs.said))))
    return out


def held_out_pairs(config: RewardConfig) -> tuple[Pairs, Pairs]:
    """The pairs that a training holds out, and some of those it trains on. Raises as `train_reward`."""
    stage = reward_stage(config)
    prepared = prepare(config, stage, find_files(config.data, stage.folder, config.eval_data))
    return Pairs.of(prepared.eval.rows), Pairs.of(prepared.train.rows[:MOST])


def _rewards(path: Path, said: Sequence[Said]) -> Array:
    return np.array(asyncio.run(score_all(f"transformers/{path}", said)) if said else [])


async def score_all(spec: str, said: Sequence[Said], use: EnsembleUse | None = None) -> list[float]:
    """The rewards of a model, in order."""
    model = await open_reward_model(spec, use=use)
    try:
        return list(await asyncio.gather(*(model.score(*item) for item in said)))
    finally:
        await model.aclose()


# -------------------------------------------------------------------------------------------------- ensembles


def _train_ensemble(config: RewardModelConfig, plain: RewardConfig, on_log: OnLog | None) -> Path:
    started = time.monotonic()
    loading.check_machine(plain)
    folder.check_place(plain)
    beginning = _beginning(config)
    folder.check_free(config, beginning)
    if config.resume and folder.is_complete(config.out):
        return config.out
    held_out, trained = held_out_pairs(plain)
    folder.begin(config, beginning)
    outs = [train_reward(member, on_log) for member in _members(config, plain)]
    enough = len(held_out.prompts) >= ENOUGH
    scale_by = held_out if enough else trained
    models = [out / "merged" if config.merge else out for out in outs]
    rewards = [_rewards(model, [*held_out.said, *scale_by.said]) for model in models]
    count = len(held_out.said)
    ensemble = Ensemble(
        scale_from="held-out" if enough else "training",
        members=tuple(
            _member(model, config, number, told[count:])
            for number, (model, told) in enumerate(zip(models, rewards, strict=True))
        ),
    )
    write_json(config.out / FILE, ensemble.model_dump(mode="json"))
    write_json(config.out / REPORT, _measured(ensemble, held_out, [told[:count] for told in rewards]))
    folder.write_json(config.out / "training.json", _report(beginning, outs, time.monotonic() - started))
    return config.out


def _beginning(config: RewardModelConfig) -> folder.Beginning:
    train, held_out = find_files(config.data, "dpo", config.eval_data)
    inputs = {"model": hash_files(Path(config.model)), "train": hash_files(train)}
    if held_out:
        inputs["eval"] = hash_files(held_out)
    return folder.Beginning(stage="reward", config=config.model_dump(mode="json"), inputs=inputs)


def _members(config: RewardModelConfig, plain: RewardConfig) -> list[RewardConfig]:
    outs = [config.out / f"member-{number + 1}" for number in range(config.members)]
    return [
        plain.model_copy(
            update={
                "out": out,
                "seed": config.seed + number,
                "overwrite": False,
                "resume": config.resume and out.exists(),
            }
        )
        for number, out in enumerate(outs)
    ]


def _member(model: Path, config: RewardModelConfig, number: int, rewards: Array) -> Member:
    spread = float(rewards.std())
    if not spread > 0:
        raise GateError(f"{model} gives every response the same reward: train longer, or on more pairs")
    path, seed = str(model.relative_to(config.out)), config.seed + number
    return Member(path=path, seed=seed, mean=float(rewards.mean()), std=spread, n=len(rewards))


def _measured(ensemble: Ensemble, pairs: Pairs, rewards: Sequence[Array]) -> dict[str, Any]:
    """`quality` of the members and of each way to combine them."""
    scaled = [ensemble.on_one_scale(told) for told in np.array(rewards).T.tolist()]
    uses: Mapping[str, EnsembleUse] = {
        "mean": EnsembleUse("mean"),
        "worst": EnsembleUse("worst"),
        "uncertainty": EnsembleUse("uncertainty"),
    }
    combined = {
        name: quality(pairs.rewarded(np.array([use.combine(told) for told in scaled])))
        for name, use in uses.items()
    }
    return {**combined, "members": [quality(pairs.rewarded(told)) for told in rewards]}


def _report(beginning: folder.Beginning, outs: Sequence[Path], seconds: float) -> TrainingReport:
    """The first member's, with what is to be said of all of them."""
    reports = [read_report(out) for out in outs]
    warnings = [
        f"{out.name}: {text}" for out, report in zip(outs, reports, strict=True) for text in report.warnings
    ]
    return reports[0].model_copy(
        update={
            "config": beginning.config,
            "inputs": beginning.inputs,
            "warnings": warnings,
            "steps": sum(report.steps for report in reports),
            # What the members say of held-out pairs is no word on all of them: see heldout.json.
            "first_eval": None,
            "last_eval": None,
            "stopped_early": any(report.stopped_early for report in reports),
            "reload": max((report.reload for report in reports), key=lambda check: check.max_difference),
            "seconds": round(seconds, 2),
        }
    )

"""One round: sample → judge → pair → (people look) → train → evaluate.

Every step leaves a file that is written last, and is left out where that file is there: so a round goes on
from wherever it was cut off.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from judges.judge import Judge
from judges.reward_model import RewardJudge
from pipelines.generate import generate_with
from pipelines.judging import make_judge
from pipelines.publish import sha256_of
from pipelines.revise import revise_with
from pipelines.rewarding import Gated, JudgeReward
from pipelines.rlaif.config import LoopConfig, stage_config
from pipelines.rlaif.data import margins, pair_files, prompt_file, training_files
from pipelines.rlaif.human import checked
from pipelines.rlaif.measure import Judges, Measure, answers_of, evaluate_round, length_ratio, read_back
from pipelines.rlaif.places import RoundPlace, weights_in
from pipelines.rlaif.policy import Policy, folder_of, identity_of, local_spec
from pipelines.rlaif.usage import Spent
from pipelines.roles import Roles
from pipelines.training import train_in_thread
from pipelines.training_report.page import write_training_report
from pipelines.uses import record as record_use
from pipelines.watch_judge import score_of
from prefgen.errors import GateError
from prefgen.files import write_json
from trainers.folder import is_complete
from trainers.report import read_report
from trainers.reward import RewardConfig, train_reward
from trainers.rewards import Reward
from trainers.sft import SFTConfig, train_sft


@dataclass(frozen=True, slots=True)
class Loop:
    """What all rounds share."""

    config: LoopConfig
    roles: Roles
    policy: Policy
    measure: Measure
    spent: Spent

    async def held_out(self) -> Judge:
        return await make_judge(self.config.evaluate, self.roles, self.measure.run.attempt)

    async def training_judge(self) -> Judge:
        return await make_judge(self.config.generate, self.roles, self.measure.run.attempt)

    async def close_models(self) -> None:
        await self.policy.close()
        await self.roles.close_all()

    def place(self, number: int) -> RoundPlace:
        return RoundPlace(self.config.out, number)

    def spec_after(self, number: int) -> str:
        """The policy that round `number` left; after round 0 the one the first round samples from."""
        if number:
            return local_spec(self.config.policy, weights_in(self.place(number).model))
        if self.config.revise is None:
            return self.config.policy
        return local_spec(self.config.policy, weights_in(self.config.out / "start" / "sft"))


async def begin(loop: Loop) -> None:
    """Round 0: the constitutional recipe's critique, revision and fine-tuning; then the start's answers."""
    config, start = loop.config, loop.config.out / "start"
    if config.revise is not None:
        await _revise_and_tune(loop, start)
    answers = loop.place(0).folder / "answers.jsonl"
    if not answers.exists():
        policy = await loop.policy.take(loop.spec_after(0))
        with loop.roles.console.step("round 0: answers to the held-out prompts"):
            await answers_of(policy, loop.measure, answers)
    if config.revise is not None and not (start / "evaluation.json").exists():
        ours = await read_back(loop.measure, answers)
        theirs = await read_back(loop.measure, start / "answers.jsonl")
        judge = await loop.held_out()
        found = await loop.measure.compare(judge, ours, theirs, start / "annotations.jsonl")
        found |= {"baseline": config.policy, "length_ratio": length_ratio(found)}
        write_json(start / "evaluation.json", found)
    loop.spent.book(0)


async def _revise_and_tune(loop: Loop, start: Path) -> None:
    config, tuned = loop.config, start / "sft"
    assert config.revise is not None
    if not (start / "answers.jsonl").exists():
        policy = await loop.policy.take(config.policy)
        await answers_of(policy, loop.measure, start / "answers.jsonl")
    if not (start / "revise" / "manifest.json").exists():
        await loop.policy.take(config.policy)
        revise = config.revise.model_copy(update={"out": start / "revise"})
        await revise_with(revise, loop.roles, resume=revise.out.exists())
    if not is_complete(tuned):
        _clear_unbegun(tuned)
        if config.file.free_memory:
            await loop.close_models()
        rows = start / "revise" / "sft.parquet"
        stage = stage_config(SFTConfig, config.file.sft, folder_of(config.policy), rows, tuned)
        with loop.roles.console.step("round 0: fine-tuning on the revisions"):
            await train_in_thread(train_sft, stage)


async def play(loop: Loop, number: int) -> dict[str, Any]:
    """A round, or what is left of it; returns what `round.json` holds."""
    place, started = loop.place(number), time.monotonic()
    if place.record.exists():
        loop.roles.console.note(f"round {number}: complete")
        found: dict[str, Any] = json.loads(place.record.read_text(encoding="utf-8"))
        return found
    try:
        before = loop.spec_after(number - 1)
        await _label(loop, place, before)
        human = loop.config.file.human_check
        said = checked(place, human, loop.config.seed) if human is not None else None
        await _train(loop, place, before)
        after = local_spec(before, weights_in(place.model))
        loaded = await _answers(loop, place, after)
        with loop.roles.console.step(f"round {number}: judging the answers to the held-out prompts"):
            judges = Judges(await loop.held_out(), await loop.training_judge())
            result = await evaluate_round(loop.measure, judges, place)
    finally:
        loop.spent.book(number)
    record = _record(place, before, after, loaded, result) | {
        "human_check": said,
        "usage": loop.spent.rounds[str(number)],
        "seconds": round(time.monotonic() - started, 1),
    }
    record_use(place.run, "training", place.model)
    record_use(place.run, "loop", place.out)
    write_json(place.record, record)
    return record


async def _label(loop: Loop, place: RoundPlace, before: str) -> None:
    """`generate`'s own job into the round's run directory."""
    if (place.run / "manifest.json").exists():
        return
    await loop.policy.take(before)
    config = loop.config.generate.model_copy(
        update={"policy": (before,), "prompts": prompt_file(loop.config, place), "out": place.run}
    )
    with loop.roles.console.step(f"round {place.number}: writing and judging"):
        await generate_with(config, loop.roles, resume=place.run.exists())
    loop.spent.book(place.number)


async def _train(loop: Loop, place: RoundPlace, before: str) -> None:
    if not is_complete(place.model):
        await _fit(loop, place, before)
    if not (place.model / "report.html").exists():
        write_training_report(place.model)


async def _fit(loop: Loop, place: RoundPlace, before: str) -> None:
    training, console = loop.config.train, loop.roles.console
    if not training.stage.online or training.reward == "trained":
        _check_pairs(loop, place)
    data, held_out = training_files(loop.config, place, console)
    _clear_unbegun(place.model)
    if loop.config.file.free_memory:
        await loop.close_models()
    options: dict[str, Any] = {}
    if not loop.config.file.free_memory:
        options["held_out"] = score_of(await loop.held_out(), loop.config.evaluate)
    if training.stage.online:
        options["rewards"] = [await _reward(loop, place, before)]
    config = training.config(folder_of(before), data, place.model, held_out)
    with console.step(f"round {place.number}: training {training.name}"):
        await train_in_thread(training.stage.train, config, **options)
    for reward in options.get("rewards", ()):
        reward.score.check()
    if training.reward == "trained":
        # The next round has another; one that lies elsewhere stays.
        await loop.roles.close(local_spec(before, weights_in(place.folder / "reward")), reward=True)


def _check_pairs(loop: Loop, place: RoundPlace) -> None:
    """Raises GateError where the judge was sure of no pair: there is nothing to learn from."""
    if pq.read_metadata(place.run / "dpo" / "train.parquet").num_rows == 0:
        raise GateError(
            f"round {place.number} has no pair to train on, see {place.run / 'report.html'} for why; the "
            f"best model so far stands in {loop.config.out / 'best.json'}\n  fix: a lower "
            "generate.min_confidence, more candidates (generate.n) or more prompts, with another --out"
        )


def _clear_unbegun(folder: Path) -> None:
    """A stage that was killed while it began its folder left nothing that could go on."""
    if folder.exists() and not (folder / "stage.json").exists():
        shutil.rmtree(folder)


async def _reward(loop: Loop, place: RoundPlace, before: str) -> Reward:
    """What an online stage learns from: the judge, a reward model, or one trained on the round's pairs."""
    name = loop.config.train.reward or ""
    if name == "judge":
        return _gated(loop, name, await loop.training_judge())
    spec = await _trained_reward(loop, place, before) if name == "trained" else name
    return _gated(loop, name, RewardJudge(await loop.roles.reward_model(spec)))


def _gated(loop: Loop, name: str, judge: Judge) -> Reward:
    score = JudgeReward(judge, asyncio.get_running_loop())
    return Reward(name, Gated(name, score, loop.config.generate.max_failure_share))


async def _trained_reward(loop: Loop, place: RoundPlace, before: str) -> str:
    folder = place.folder / "reward"
    if not is_complete(folder):
        _clear_unbegun(folder)
        data, held_out = pair_files(loop.config, place, loop.roles.console)
        options = loop.config.file.reward_training
        config = stage_config(RewardConfig, options, folder_of(before), data, folder, held_out)
        with loop.roles.console.step(f"round {place.number}: training a reward model"):
            await train_in_thread(train_reward, config)
    return local_spec(before, weights_in(folder))


async def _answers(loop: Loop, place: RoundPlace, after: str) -> str | None:
    """The new policy's answers; says how its weights were loaded, None where another process had done so."""
    path = place.folder / "answers.jsonl"
    if path.exists():
        return None
    policy = await loop.policy.take(after)
    with loop.roles.console.step(f"round {place.number}: answers to the held-out prompts"):
        await answers_of(policy, loop.measure, path)
    return loop.policy.loaded


def _record(
    place: RoundPlace, before: str, after: str, loaded: str | None, result: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything of a round that its manifest entry says; paths are relative to the loop's directory."""
    run = json.loads((place.run / "manifest.json").read_text(encoding="utf-8"))
    report, out = read_report(place.model), place.out
    trained_on = sorted((place.run / "dpo").glob("*.parquet")) + (
        [place.mixed] if place.mixed.exists() else []
    )
    training = place.model / "training.json"
    return {
        "round": place.number,
        "run": str(place.run.relative_to(out)),
        "model": str(weights_in(place.model).relative_to(out)),
        "files": {
            str(Path(name).relative_to(out)): digest
            for name, digest in sha256_of([*trained_on, training]).items()
        },
        "policy": {
            "before": {"spec": before, "identity": run["models"]["policy"]["identity"]},
            "after": {"spec": after, "identity": identity_of(after), "loaded": loaded},
        },
        "judge": run["judge"],
        "counts": {name: run["counts"][name] for name in ("prompts", "candidates", "judgments", "pairs")},
        "expected_label_precision": run["expected_label_precision"],
        **{f"mean_{name}": value for name, value in margins(place.run).items()},
        "training": {
            "stage": report.stage,
            "steps": report.steps,
            "rows": report.counts,
            "seconds": report.seconds,
            "warnings": report.warnings,
        },
        "evaluation": {
            **_told(result),
            "last": _told(result["last"]),
            "training_judge": _told(result["training_judge"]),
            "length_ratio": result["length_ratio"],
        },
    }


def _told(result: Mapping[str, Any]) -> dict[str, Any]:
    names = ("n", "n_failed", "win_rate", "ci", "length_controlled_win_rate", "judge")
    return {name: result[name] for name in names}

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.rewarding import JudgeReward
from pipelines.training import in_thread
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.messages import user
from prefgen.prompt import Prompt
from prefgen.verdicts import ALIKE, Weighing
from trainers.config import StageConfig
from trainers.rewards import Sample

SAID = Provenance("lengths", "lengths", "")


class Lengths:
    """Likes long texts, and fails on the text `?`."""

    def __init__(self) -> None:
        self.name = "lengths"
        self.weighing: Weighing = ALIKE
        self.asked: list[list[str]] = []

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        self.asked.append([candidate.text for candidate in candidates])
        return [
            JudgeFailure(prompt.id, item.id, None, "parse_failure", SAID, "")
            if item.text == "?"
            else Judgment(prompt.id, item.id, None, float(len(item.text)), SAID, "")
            for item in candidates
        ]


async def test_samples_of_a_prompt_are_judged_together_once_each_and_a_failure_has_no_score() -> None:
    judge = Lengths()
    samples = [
        Sample(user("one"), "aa"),
        Sample(user("two"), "b"),
        Sample(user("one"), "?"),
        Sample(user("one"), "aa"),
    ]
    reward = JudgeReward(judge, asyncio.get_running_loop())
    assert await asyncio.to_thread(reward, samples) == [2.0, 1.0, None, 2.0]
    assert sorted(judge.asked) == [["aa", "?"], ["b"]]


async def test_a_cancelled_training_ends_at_its_next_log() -> None:
    begun, logs = asyncio.Event(), 0
    loop = asyncio.get_running_loop()

    def train(config: StageConfig, on_log, rewards: object) -> Path:  # type: ignore[no-untyped-def]
        nonlocal logs
        assert rewards == "given"
        while True:
            on_log({"step": 1.0})
            logs += 1
            loop.call_soon_threadsafe(begun.set)

    config = StageConfig(model="m", data=Path("d"), out=Path("o"))
    task = asyncio.create_task(in_thread(train, config, rewards="given"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ended = logs
    await asyncio.sleep(0.05)
    assert logs == ended

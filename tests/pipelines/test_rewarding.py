from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest

from judges.jury import Jury
from pipelines.rewarding import Gated, JudgeReward, largest_component
from pipelines.training import in_thread
from prefgen.candidate import Candidate
from prefgen.errors import GateError
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.messages import user
from prefgen.prompt import Prompt
from prefgen.verdicts import ALIKE, Combine, Weighing
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


class Opinion:
    """A judge that gives each text the number in it, times `slope`, plus `kindness`."""

    def __init__(self, name: str, slope: float = 1.0, kindness: float = 0.0) -> None:
        self.name, self._slope, self._kindness = name, slope, kindness
        self.weighing: Weighing = ALIKE

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        said = Provenance(self.name, self.name, "")
        return [
            JudgeFailure(prompt.id, item.id, None, "timeout", said, "")
            if self.name in item.text
            else Judgment(
                prompt.id, item.id, None, self._slope * float(item.text.split()[0]) + self._kindness, said, ""
            )
            for item in candidates
        ]


@pytest.mark.parametrize(("combine", "alone"), [("mean", 4.0), ("median", 3.0)])
async def test_a_jury_scores_one_sample_as_it_scores_many(combine: Combine, alone: float) -> None:
    judges = {
        "mean": [Opinion("x"), Opinion("y", 3.0), Opinion("z", 1.0, 2.0)],  # of 2: 2, 6 and 4
        "median": [Opinion("x"), Opinion("y", 3.0), Opinion("z", 1.0, 1.0)],  # of 2: 2, 6 and 3
    }[combine]
    reward = JudgeReward(Jury(judges, Weighing(combine=combine)), asyncio.get_running_loop())
    assert await reward.score([Sample(user("one"), "2")]) == [alone]
    several = [Sample(user("one"), "2"), Sample(user("one"), "5"), Sample(user("two"), "2")]
    told = await reward.score(several)
    assert (told[0], told[2]) == (alone, alone)
    # Who failed of the jury does not matter: the sample has no score.
    assert await reward.score([Sample(user("one"), "2 y"), Sample(user("one"), "2")]) == [None, alone]


class Duels:
    """Compares texts by their numbers; a pair of which one says `?` fails."""

    name, weighing = "duels", ALIKE

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        return [
            JudgeFailure(prompt.id, a.id, b.id, "timeout", SAID, "")
            if "?" in a.text + b.text
            else Judgment(prompt.id, a.id, b.id, float(a.text) - float(b.text), SAID, "")
            for a, b in combinations(candidates, 2)
        ]


async def test_compared_samples_are_distances_from_their_mean() -> None:
    reward = JudgeReward(Duels(), asyncio.get_running_loop())
    texts = ["1", "2", "6", "?", "1"]
    # Of 1, 2 and 6 the mean is 3. Every comparison of ? failed.
    assert await reward.score([Sample(user("q"), text) for text in texts]) == [
        pytest.approx(-2, abs=1e-6),
        pytest.approx(-1, abs=1e-6),
        pytest.approx(3, abs=1e-6),
        None,
        pytest.approx(-2, abs=1e-6),
    ]
    # A group that agrees to the letter is worth 0, which is no failure.
    assert await reward.score([Sample(user("q"), "1")] * 3) == [0.0] * 3


def test_only_what_met_has_one_scale() -> None:
    assert largest_component([("a", "b"), ("c", "d"), ("d", "e")]) == {"c", "d", "e"}
    assert largest_component([("a", "b"), ("c", "d"), ("b", "c")]) == {"a", "b", "c", "d"}
    assert largest_component([]) == frozenset()


def test_too_many_failures_end_the_run() -> None:
    def one_in_ten(samples: Sequence[Sample]) -> list[float | None]:
        return [None if place % 10 == 0 else 1.0 for place in range(len(samples))]

    samples = [Sample(user("q"), "a")] * 40
    gated = Gated("judge", one_in_ten, 0.05)
    gated(samples)  # 4 of 40, but that is too early to tell.
    with pytest.raises(GateError, match="judge could not score 8 of 80 responses"):
        gated(samples)
    with pytest.raises(GateError):
        gated.check()
    lenient = Gated("judge", one_in_ten, 0.1)
    lenient(samples * 3)
    lenient.check()


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

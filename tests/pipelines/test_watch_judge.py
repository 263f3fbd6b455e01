from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pipelines.watch_judge import AgainstStart, judging_of
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment, Provenance
from prefgen.messages import user
from prefgen.prompt import Prompt
from prefgen.verdicts import ALIKE, Weighing
from trainers.config import StageConfig
from trainers.rewards import Sample

SAID = Provenance("lengths", "lengths", "")


class Longer:
    """A pairwise judge for which every further letter is worth one; it fails on the text `?`."""

    def __init__(self) -> None:
        self.name = "lengths"
        self.weighing: Weighing = ALIKE
        self.asked: list[list[str]] = []

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        a, b = candidates
        self.asked.append([a.text, b.text])
        if "?" in (a.text, b.text):
            return [JudgeFailure(prompt.id, a.id, b.id, "parse_failure", SAID, "")]
        return [Judgment(prompt.id, a.id, b.id, float(len(a.text) - len(b.text)), SAID, "")]


async def test_answers_are_held_against_the_starts_to_the_same_prompt() -> None:
    judge = Longer()
    score = AgainstStart(judge, asyncio.get_running_loop())
    prompts = [user(name) for name in ("one", "two", "three", "four")]

    def samples(*texts: str) -> list[Sample]:
        return [Sample(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

    start = samples("aa", "bbb", "c", "d")
    assert await asyncio.to_thread(score, start) == [0, 0, 0, 0]
    assert judge.asked == []
    assert await asyncio.to_thread(score, samples("aaaa", "b", "?", "d")) == [2, -2, None, 0]
    assert sorted(judge.asked) == [["?", "c"], ["aaaa", "aa"], ["b", "bbb"]]


def test_the_judging_of_a_training() -> None:
    options = {"model": "m", "data": "d", "out": "o", "watch_judge": "openai/a", "watch_engine_arg": ["x=1"]}
    judging = judging_of(StageConfig.model_validate(options | {"watch_judging": "pointwise"}))
    assert (judging.judge, judging.reward_model, judging.judging) == (("openai/a",), None, "pointwise")
    assert judging.engine_arg == ("x=1",)

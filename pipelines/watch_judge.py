"""A training beside the judge that watches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from judges.judge import Judge, gather
from pipelines.console import Console
from pipelines.generate_config import JudgingConfig
from pipelines.judging import check_judging, make_judge, roles_of
from pipelines.rewarding import JudgeReward
from pipelines.training import in_thread
from prefgen.candidate import Candidate
from prefgen.ledger import Ledger, default_path
from prefgen.messages import messages_hash
from prefgen.prompt import Prompt
from prefgen.verdicts import settle
from trainers.config import StageConfig
from trainers.monitor import OnLog
from trainers.rewards import Sample, Score


class AgainstStart:
    """A `trainers.rewards.Score` of a judge that compares: the log-odds that an answer beats the starting
    model's answer to the same prompt.

    The samples of the first call are the start's, and 0 by definition. Later calls hold the same prompts in
    the same order. For a trainer in another thread, while `loop` runs in its own.
    """

    def __init__(self, judge: Judge, loop: asyncio.AbstractEventLoop) -> None:
        self._judge, self._loop = judge, loop
        self._start: Sequence[Sample] = ()

    def __call__(self, samples: Sequence[Sample]) -> list[float | None]:
        return asyncio.run_coroutine_threadsafe(self.score(samples), self._loop).result()

    async def score(self, samples: Sequence[Sample]) -> list[float | None]:
        self._start = self._start or samples
        return await gather(map(self._compare, samples, self._start))

    async def _compare(self, now: Sample, start: Sample) -> float | None:
        if now.completion == start.completion:
            return 0.0
        name = messages_hash(now.prompt)
        ours, theirs = _candidate(name, now), _candidate(name, start)
        results = await self._judge.judge(Prompt(name, now.prompt, now.columns), [ours, theirs])
        standing = settle([ours.id, theirs.id], results, self._judge.weighing)
        return standing.margin(ours.id, theirs.id)


def _candidate(prompt_id: str, sample: Sample) -> Candidate:
    return Candidate(
        prompt_id, sample.completion, "the watched policy", 0, "stop" if sample.finished else "length"
    )


def judging_of(config: StageConfig) -> JudgingConfig:
    """How the judge of a training's `watch_…` options judges."""
    return JudgingConfig(
        judge=(config.watch_judge,) if config.watch_judge else (),
        reward_model=config.watch_reward_model,
        judging=config.watch_judging,
        constitution=config.watch_constitution,
        judge_template=config.watch_judge_template,
        engine_arg=config.watch_engine_arg,
    )


def score_of(judge: Judge, judging: JudgingConfig) -> Score:
    """What a judge made of `judging` says of an answer; to be called in the loop that will answer it."""
    loop = asyncio.get_running_loop()
    compares = bool(judging.judge) and judging.judging in ("pairwise", "listwise")
    return AgainstStart(judge, loop) if compares else JudgeReward(judge, loop)


@asynccontextmanager
async def watching(config: StageConfig, ledger: Ledger, console: Console) -> AsyncIterator[Score | None]:
    """What the judge of a training's `watch_…` options makes of an answer, None without one.

    To be entered in the loop that will answer it. Raises UsageError, ModelUnavailableError.
    """
    if config.watched_by is None:
        yield None
        return
    judging = judging_of(config)
    check_judging(judging)
    async with roles_of(judging, ledger, console) as roles:
        yield score_of(await make_judge(judging, roles), judging)


async def train_watched(
    run: Callable[..., Path], config: StageConfig, console: Console, on_log: OnLog
) -> Path:
    """Runs a stage with its judge behind engine and ledger. Raises UsageError, ModelUnavailableError."""
    with Ledger(default_path()) as ledger:
        async with watching(config, ledger, console) as held_out:
            return await in_thread(run, config, on_log, held_out=held_out)

"""The way of one prompt: sampled, judged, paired; and many of them at once, in order."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

from judges.judge import Judge
from pipelines.generate_config import GenerateConfig
from pipelines.judging import make_judge, make_judges
from pipelines.outcome import Outcome, Pairing
from pipelines.roles import Roles
from prefgen.candidate import Candidate
from prefgen.completion import Sampling
from prefgen.planted import PlantedResult, check, plant
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.sampling import Sampled, SamplingPlan, sample

T = TypeVar("T")
Work = Callable[[], Iterator[tuple[Prompt, bool]]]
"""The prompts of a job in order, each with whether it carries planted pairs."""


class Outcomes(Protocol):
    """What makes the outcomes of a job. `pairing` is whole once there is an outcome."""

    @property
    def pairing(self) -> Pairing: ...

    def outcomes(self, work: Work, finished: Callable[[], None]) -> AsyncGenerator[Outcome, None]:
        """In the order of the prompts; `finished()` whenever one is finished, in whatever order."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """Policies, judges and rules. `judges`: one, which may be a jury, or those of a cascade in order.
    `window`: prompts under way at once."""

    policies: Sequence[RecordedModel]
    judges: Sequence[Judge]
    plan: SamplingPlan
    pairing: Pairing
    judge_unfinished: bool
    window: int = 64

    def outcomes(self, work: Work, finished: Callable[[], None]) -> AsyncGenerator[Outcome, None]:
        async def finish(prompt: Prompt, with_planted: bool) -> Outcome:
            outcome = await self.run(prompt, with_planted)
            finished()
            return outcome

        return in_order((finish(prompt, planted) for prompt, planted in work()), self.window)

    async def run(self, prompt: Prompt, with_planted: bool) -> Outcome:
        outcome = await self._round(prompt, self.plan.rounds[0])
        for n in self.plan.rounds[1:]:
            if outcome.paired.preferences:
                break
            further = await self._round(prompt, n)
            failures = further.sampled.failures
            if failures:  # What was drawn before them stays; they are owed.
                outcome = replace(outcome, sampled=replace(outcome.sampled, failures=failures))
                break
            outcome = further
        return await self._checked(outcome) if with_planted else outcome

    async def _round(self, prompt: Prompt, n: int) -> Outcome:
        """What the first `n` candidates come to. What is known of fewer comes from the ledger."""
        return await self._judge_all(prompt, await sample(prompt, self.policies, self.plan, n))

    async def sample(self, prompt: Prompt) -> Sampled:
        """`run` in two halves, where there is one round: the first."""
        (n,) = self.plan.rounds
        return await sample(prompt, self.policies, self.plan, n)

    async def judge(self, prompt: Prompt, sampled: Sampled, with_planted: bool) -> Outcome:
        """And the second."""
        outcome = await self._judge_all(prompt, sampled)
        return await self._checked(outcome) if with_planted else outcome

    async def _checked(self, outcome: Outcome) -> Outcome:
        return replace(outcome, planted=await self._plant(outcome))

    async def _judge_all(self, prompt: Prompt, sampled: Sampled) -> Outcome:
        judged = [item for item in sampled.distinct if self.judge_unfinished or _finished(item)]
        return await self._judge(prompt, sampled, judged)

    async def _judge(self, prompt: Prompt, sampled: Sampled, judged: Sequence[Candidate]) -> Outcome:
        first, *later = self.judges
        results = await first.judge(prompt, judged) if len(judged) > 1 else []
        outcome = self.pairing.outcome(prompt, sampled, results)
        for judge in later:
            room = self.pairing.rule.max_pairs - len(outcome.paired.preferences)
            unsure = outcome.paired.unsure[:room]
            told = await asyncio.gather(
                *(judge.judge(prompt, [pair.chosen, pair.rejected]) for pair in unsure)
            )
            results = [*results, *(result for answer in told for result in answer)]
            outcome = self.pairing.outcome(prompt, sampled, results)
        return outcome

    async def _plant(self, outcome: Outcome) -> list[PlantedResult]:
        """Known pairs through the same judges, the same algebra and the same rules as the rest.

        They are made from the response that was judged best: nothing is sometimes better than a bad one.
        """
        scores = outcome.standing.scores
        ranked = sorted(outcome.sampled.distinct, key=lambda item: -scores.get(item.id, -math.inf))
        pairs = list(plant(outcome.prompt, ranked))
        judged = await asyncio.gather(
            *(self._judge(outcome.prompt, Sampled(pair.sides), pair.sides) for pair in pairs)
        )
        return [
            check(pair, told.standing, told.paired, self.pairing.rule)
            for pair, told in zip(pairs, judged, strict=True)
        ]


def _finished(candidate: Candidate) -> bool:
    return not candidate.truncated and not candidate.empty


async def make_line(
    config: GenerateConfig,
    roles: Roles,
    pairing: Pairing,
    attempt: int,
    *,
    sampling: bool = True,
    judging: bool = True,
) -> Line:
    """The models started, or of a line that only samples or only judges those. `attempt`: see
    `judges.asking.Asking`."""
    judges: list[Judge] = []
    if judging and config.combine == "cascade":
        judges = await make_judges(config, roles, attempt)
    elif judging:
        judges = [await make_judge(config, roles, attempt)]
    weighing = pairing.weighing
    principles = weighing.principles or (judges[-1].weighing.principles if judges else {})
    return Line(
        policies=[await roles.model(spec) for spec in config.policy] if sampling else [],
        judges=judges,
        plan=SamplingPlan(
            config.n,
            Sampling(config.max_tokens, config.temperature, config.top_p),
            config.seed,
            config.system,
            config.n_first,
        ),
        pairing=replace(pairing, weighing=replace(weighing, principles=principles)),
        judge_unfinished=config.judge_unfinished,
        window=config.window,
    )


async def in_order(
    work: Iterator[Coroutine[Any, Any, T]], window: int, ahead: int | None = None
) -> AsyncGenerator[T, None]:
    """The results of `work` in its order, with at most `window` of it under way.

    What is done but comes after something that is not waits; at most `ahead` (four windows) are held in all:
    until then one slow prompt holds up no other. The first failure ends all, wherever it stands.
    """
    running: deque[asyncio.Task[T]] = deque()
    failed: list[asyncio.Task[T]] = []
    most = 4 * window if ahead is None else ahead
    under_way, ended = 0, asyncio.Event()

    def done(task: asyncio.Task[T]) -> None:
        nonlocal under_way
        under_way -= 1
        if not task.cancelled() and task.exception() is not None:
            failed.append(task)
        ended.set()

    try:
        while True:
            for item in islice(work, min(window - under_way, most - len(running))):
                task = asyncio.create_task(item)
                task.add_done_callback(done)
                running.append(task)
                under_way += 1
            if failed:
                failed[0].result()
            if not running:
                return
            if running[0].done():
                yield running.popleft().result()
            else:
                ended.clear()
                await ended.wait()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

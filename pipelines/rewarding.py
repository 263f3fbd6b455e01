"""A judge or a reward model as a reward: what it makes of each response, through engine and ledger."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from judges.judge import Judge
from prefgen.candidate import Candidate
from prefgen.errors import GateError
from prefgen.judgment import JudgeResult
from prefgen.messages import messages_hash
from prefgen.prompt import Prompt
from prefgen.verdicts import Pair, Weighing, settle, settle_singles
from trainers.rewards import Sample, Score

_POLICY = "the policy in training"


class JudgeReward:
    """A `trainers.rewards.Score` for a trainer in another thread, while `loop` runs in its own.

    The number is on the judge's log-odds scale, or in a reward model's own unit; judged each by itself,
    samples of all prompts share one scale, of a jury too. Samples of one prompt are judged together. Where
    they are compared with each other, scores are distances from their mean, and one text alone is worth 0. A
    sample whose judgment failed has no score.
    """

    def __init__(self, judge: Judge, loop: asyncio.AbstractEventLoop) -> None:
        self._judge, self._loop = judge, loop

    def __call__(self, samples: Sequence[Sample]) -> list[float | None]:
        return asyncio.run_coroutine_threadsafe(self.score(samples), self._loop).result()

    async def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """In the order of the samples."""
        groups: dict[str, list[int]] = defaultdict(list)
        for place, sample in enumerate(samples):
            groups[messages_hash(sample.prompt)].append(place)
        scores: list[float | None] = [None] * len(samples)
        told = await asyncio.gather(
            *(self._group(name, [samples[place] for place in places]) for name, places in groups.items())
        )
        for places, group in zip(groups.values(), told, strict=True):
            for place, score in zip(places, group, strict=True):
                scores[place] = score
        return scores

    async def _group(self, prompt_id: str, samples: Sequence[Sample]) -> list[float | None]:
        prompt = Prompt(prompt_id, samples[0].prompt, samples[0].columns)
        # The same text twice is asked about once.
        by_text = {
            sample.completion: Candidate(
                prompt_id, sample.completion, _POLICY, 0, "stop" if sample.finished else "length"
            )
            for sample in samples
        }
        candidates = list(by_text.values())
        results = await self._judge.judge(prompt, candidates)
        scores = _scores([candidate.id for candidate in candidates], results, self._judge.weighing)
        return [scores.get(by_text[sample.completion].id) for sample in samples]


def _scores(ids: Sequence[str], results: Sequence[JudgeResult], weighing: Weighing) -> Mapping[str, float]:
    if not results and len(ids) == 1:
        return {ids[0]: 0.0}
    if all(result.b_id is None for result in results):
        return settle_singles(ids, results, weighing)
    standing = settle(ids, results, weighing)
    if standing.sparse or not standing.failed:
        return standing.scores
    linked = largest_component(standing.margins)
    return {name: score for name, score in standing.scores.items() if name in linked}


def largest_component(pairs: Iterable[Pair]) -> frozenset[str]:
    """Of those that met, directly or through others, the most; between groups that did not is no scale."""
    groups: list[frozenset[str]] = []
    for pair in pairs:
        met = [group for group in groups if not group.isdisjoint(pair)]
        groups = [group for group in groups if group not in met] + [frozenset(pair).union(*met)]
    return max(groups, key=len, default=frozenset())


class Gated:
    """A `trainers.rewards.Score` that ends the run when too many samples could not be scored.

    `most`: share of all samples so far, from `ENOUGH` samples on. `asked` and `failed` count samples.
    """

    ENOUGH = 50

    def __init__(self, name: str, score: Score, most: float) -> None:
        self._name, self._score, self._most = name, score, most
        self.asked = self.failed = 0

    def __call__(self, samples: Sequence[Sample]) -> Sequence[float | None]:
        scores = self._score(samples)
        self.asked += len(samples)
        self.failed += sum(score is None for score in scores)
        if self.asked >= self.ENOUGH:
            self.check()
        return scores

    def check(self) -> None:
        """Raises GateError."""
        if self.failed > self._most * self.asked:
            raise GateError(
                f"{self._name} could not score {self.failed} of {self.asked} responses, more than "
                f"--max-failure-share {self._most:.1%}; find out why, then go on with --resume"
            )

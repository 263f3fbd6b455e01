"""A judge or a reward model as a reward: what it makes of each response, through engine and ledger."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from judges.judge import Judge
from prefgen.candidate import Candidate
from prefgen.messages import messages_hash
from prefgen.prompt import Prompt
from prefgen.verdicts import settle
from trainers.rewards import Sample

_POLICY = "the policy in training"


class JudgeReward:
    """A `trainers.rewards.Score` for a trainer in another thread, while `loop` runs in its own.

    The number is the judge's log-odds scale, or a reward model's own unit. Samples of one prompt are judged
    together. A sample whose judgment failed has no score.
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
        standing = settle([candidate.id for candidate in candidates], results, self._judge.weighing)
        return [standing.scores.get(by_text[sample.completion].id) for sample in samples]

"""Sampling: several candidates per prompt, from one policy or several."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from prefgen.candidate import Candidate
from prefgen.completion import EVERY_DRAW, CompletionRequest, Sampling, Shared
from prefgen.errors import CallError
from prefgen.messages import Message, content_hash
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """`n` candidates from each policy, at most where there is a `first`: so many are drawn, and so many more
    as long as they are wanted. `seed`: of the run; each prompt draws its own from it."""

    n: int
    sampling: Sampling
    seed: int = 0
    system: str | None = None
    first: int | None = None

    @property
    def rounds(self) -> list[int]:
        """The candidates of a policy after each round of sampling."""
        step = self.first or self.n
        return [*range(step, self.n, step), self.n]

    def request(self, prompt: Prompt, n: int) -> CompletionRequest:
        """The first `n` draws: the same, by index and seed, whatever is drawn after them."""
        messages = prompt.messages
        shared: tuple[Shared, ...] = ()
        if self.system is not None and messages[0].role != "system":
            messages = (Message("system", self.system), *messages)
            shared = (Shared(0, len(self.system), EVERY_DRAW),)
        shared = (*shared, Shared(len(messages) - 1, len(messages[-1].content), n))
        sampling = replace(self.sampling, seed=prompt_seed(self.seed, prompt.id))
        return CompletionRequest(messages, sampling, tuple(range(n)), shared=shared)


@dataclass(frozen=True, slots=True)
class Sampled:
    """`duplicate_of`: id of the first candidate with the same text, by id; these are not judged.
    `failures`: one status for each policy whose call failed. `spared`: candidates of the plan that nobody
    needed."""

    candidates: tuple[Candidate, ...]
    duplicate_of: dict[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    spared: int = 0

    @property
    def distinct(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if candidate.id not in self.duplicate_of]


async def sample(
    prompt: Prompt, policies: Sequence[RecordedModel], plan: SamplingPlan, n: int | None = None
) -> Sampled:
    """All candidates of one prompt, or the first `n` of each policy; a failed call is counted, not raised."""
    n = plan.n if n is None else n
    drawn = await asyncio.gather(*(_draw(prompt, policy, plan, n) for policy in policies))
    candidates = tuple(candidate for result in drawn if isinstance(result, tuple) for candidate in result)
    first: dict[str, str] = {}
    duplicates: dict[str, str] = {}
    for candidate in candidates:
        kept = first.setdefault(candidate.text.strip(), candidate.id)
        if kept != candidate.id:
            duplicates[candidate.id] = kept
    failures = tuple(result for result in drawn if isinstance(result, str))
    return Sampled(candidates, duplicates, failures, (plan.n - n) * len(policies))


async def _draw(
    prompt: Prompt, policy: RecordedModel, plan: SamplingPlan, n: int
) -> tuple[Candidate, ...] | str:
    request = plan.request(prompt, n)
    try:
        reply = await policy.complete(request)
    except CallError as error:
        return error.status
    sampling, seed = request.sampling, prompt_seed(plan.seed, prompt.id)
    takes_seed = not policy.capabilities.lacks("seed")
    return tuple(
        Candidate(
            prompt_id=prompt.id,
            text=completion.text,
            policy=policy.spec,
            sample=index,
            finish_reason=completion.finish_reason,
            n_tokens=completion.output_tokens,
            seed=seed + index if takes_seed else None,
            temperature=None if policy.capabilities.lacks("temperature") else sampling.temperature,
            top_p=None if policy.capabilities.lacks("top_p") else sampling.top_p,
        )
        for index, completion in enumerate(reply.completions)
    )


def prompt_seed(run_seed: int, prompt_id: str) -> int:
    """A 31-bit seed of its own for each prompt, the same wherever the prompt stands in the file."""
    return int(content_hash([run_seed, prompt_id], 8), 16) & 0x7FFFFFFF

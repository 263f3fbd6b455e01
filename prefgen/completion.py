"""The one seam to a model: messages in, completions out.

Adapters (`prefgen/models/`) implement `Model`; the engine and the ledger wrap it; nothing above the
seam knows about retries, nothing below it knows about preferences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Protocol

from prefgen.messages import Json, Messages, as_dicts

FinishReason = Literal["stop", "length", "refusal", "other"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw. None leaves a parameter to the model. `seed` is the seed of sample 0; sample i
    uses seed + i wherever the provider takes a seed."""

    max_tokens: int = 1024
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """A beginning that other draws have too: the messages before `message` and the first `end` characters of
    that one. `draws`: how many begin so."""

    message: int
    end: int
    draws: int


EVERY_DRAW = 1_000_000
"""Of a beginning that all of a run have."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One question and the draws wanted of it.

    `samples`: the index of each draw; a reply holds one completion per index, in this order.
    `label_words`: words such as ("A", "B") whose log-probability as the FIRST answer token is wanted.
    `choices`: the answer must be exactly one of these (structured output).
    `schema`: the answer must be JSON of this schema (structured output). At most one of the two.
    `shared`: beginnings that a provider's cache may keep, the shorter first; they decide no answer.
    `again`: the name under which a question is asked anew, which makes it another question.
    """

    messages: Messages
    sampling: Sampling = Sampling()
    samples: tuple[int, ...] = (0,)
    label_words: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Json] | None = None
    shared: tuple[Shared, ...] = ()
    again: str | None = None

    def identity(self) -> dict[str, Json]:
        """All that decides the answer but the model and the sample index: what the ledger hashes."""
        sampling = self.sampling
        return {
            "messages": [dict(message) for message in as_dicts(self.messages)],
            "sampling": [sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed],
            "label_words": list(self.label_words),
            "choices": list(self.choices),
            "schema": dict(self.schema) if self.schema is not None else None,
            **({} if self.again is None else {"again": self.again}),
        }


@dataclass(frozen=True, slots=True)
class Completion:
    """One draw. `text` is the answer alone: hidden thinking is cut by the adapter.

    `label_logprobs`: natural log-probability of each of the request's `label_words` as the first
    answer token, token variants (" A", "A") summed; None where the model gives none; a word outside
    what the provider returned is absent. `input_tokens` is counted once per call (0 on the further draws
    of one call), so that sums are right; where a provider gives one total for several draws,
    `output_tokens` is each draw's even share. `cached_tokens` and `cache_write_tokens` are those of the input
    tokens that were read from the provider's prompt cache and written to it. None = the provider did not say.
    `batched`: it came through a provider's batch, at the price of that.
    """

    text: str
    finish_reason: FinishReason = "stop"
    label_logprobs: Mapping[str, float] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    batched: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """`served`: the model as the provider names it in its answer."""

    completions: tuple[Completion, ...]
    served: str


@dataclass(slots=True)
class Capabilities:
    """What a model can do. None = not known yet: asked for once, and learnt from the refusal."""

    temperature: bool | None = None
    top_p: bool | None = None
    logprobs: bool | None = None
    n: bool | None = None
    seed: bool | None = None
    structured_output: bool | None = None
    prompt_cache: bool | None = None
    system_role: bool | None = None
    reasoning: bool | None = None

    learnt: dict[str, str] = field(default_factory=dict)
    """Capabilities found missing in this run, with the provider's words; goes into the manifest."""

    @property
    def missing(self) -> dict[str, str]:
        """What the model does not do, with the words it was refused in where that was learnt."""
        names = (field.name for field in fields(self) if field.name != "learnt")
        return {name: self.learnt.get(name, "known") for name in names if getattr(self, name) is False}

    def lacks(self, name: str) -> bool:
        return getattr(self, name) is False

    def learn_missing(self, name: str, words: str) -> None:
        setattr(self, name, False)
        self.learnt[name] = words[:200]


class Model(Protocol):
    """One model behind one provider.

    `complete` raises `CallError` subclasses for a failed call and `ModelUnavailableError` where no
    call can succeed. It neither retries nor waits for rate limits: the engine does. It may be called
    many times at once. `identity` names the weights: two models with one identity give the same
    answers (for local paths it holds a fingerprint of the files).
    """

    spec: str
    identity: str
    capabilities: Capabilities

    async def complete(self, request: CompletionRequest) -> Reply: ...

    async def aclose(self) -> None: ...


class RewardModel(Protocol):
    """`(prompt, response) -> score`: the raw head output, no sigmoid; higher is better."""

    spec: str
    identity: str

    async def score(self, messages: Messages, response: str) -> float: ...

    async def aclose(self) -> None: ...


def without_system(messages: Messages) -> Messages:
    """The same conversation with its system text at the head of the first user turn."""
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = tuple(message for message in messages if message.role != "system")
    if not system or not rest:
        return rest
    return (replace(rest[0], content=f"{system}\n\n{rest[0].content}"), *rest[1:])

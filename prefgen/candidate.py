"""A candidate: one response to one prompt, and who wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefgen.messages import content_hash


@dataclass(frozen=True, slots=True)
class Candidate:
    """`sample` is the index of this draw for its prompt and policy; tokens are the model's own count."""

    prompt_id: str
    text: str
    policy: str
    sample: int
    finish_reason: str = "stop"
    n_tokens: int | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    id: str = field(init=False)

    def __post_init__(self) -> None:
        name = content_hash([self.prompt_id, self.policy, self.sample, self.text])
        object.__setattr__(self, "id", name)

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"

    @property
    def empty(self) -> bool:
        return not self.text.strip()

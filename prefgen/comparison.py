"""A comparison: two responses to one prompt, to be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefgen.candidate import Candidate
from prefgen.prompt import Prompt

Order = Literal["ab", "ba"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which response is `a` is a name, not a rank; `swap()` exchanges both and is its own inverse."""

    prompt: Prompt
    a: Candidate
    b: Candidate

    def swap(self) -> Comparison:
        return Comparison(self.prompt, self.b, self.a)

"""What models were asked, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from prefgen.completion import Completion
from prefgen.ledger import Paid
from prefgen.prices import Price


@dataclass(slots=True)
class Usage:
    """What one model was asked in this process, in one role. Tokens are those paid for, `cached_tokens` those
    of the input that the provider had cached and `written_tokens` those it cached for the next call; cost is
    in US dollars, None where the price is not known. `cached_requests` were answered wholly by the ledger.
    `run`: under whose id the ledger books it. `batched`: whether the model is asked through batches,
    `saved_usd`: by which they were cheaper."""

    price: Price | None = None
    role: str = ""
    run: str | None = None
    batched: bool = False
    requests: int = 0
    cached_requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    output_tokens: int = 0
    saved_usd: float = 0.0

    @property
    def cost_usd(self) -> float | None:
        if self.price is None:
            return None
        tokens = self.input_tokens, self.output_tokens, self.cached_tokens, self.written_tokens
        return self.price.cost(*tokens) - self.saved_usd

    def cost_of(self, completions: Iterable[Completion]) -> float | None:
        """US dollars for completions at this model's price."""
        return None if self.price is None else self.price.of(completions)

    def quote(self, completions: Iterable[Completion]) -> float | None:
        """What the same would cost in the way the model is asked in."""
        price = self.price.batched if self.price is not None and self.batched else self.price
        return None if price is None else price.of(completions)

    def clear(self) -> None:
        """Counts anew; the price stays."""
        self.requests = self.cached_requests = 0
        self.input_tokens = self.cached_tokens = self.written_tokens = self.output_tokens = 0
        self.saved_usd = 0.0

    def add(self, model: str, completions: Sequence[Completion]) -> Paid | None:
        """Counts one call; returns what is to be booked for it."""
        paid = Paid(
            f"{self.run}/{self.role}",
            model,
            1,
            sum(completion.input_tokens or 0 for completion in completions),
            sum(completion.cached_tokens or 0 for completion in completions),
            sum(completion.output_tokens or 0 for completion in completions),
            self.cost_of(completions),
        )
        self.requests += 1
        self.input_tokens += paid.input_tokens
        self.cached_tokens += paid.cached_tokens
        self.written_tokens += sum(completion.cache_write_tokens or 0 for completion in completions)
        self.output_tokens += paid.output_tokens
        if self.price is not None:
            self.saved_usd += self.price.saved(completions)
        return None if self.run is None else paid


counting: ContextVar[Callable[[Usage, int, Sequence[Completion]], None] | None] = ContextVar("counting")
"""Told, where set, of all that a task and the tasks it starts ask, whether the ledger knew the answer or not:
whose usage, in how many calls, and the completions."""
replaying: ContextVar[Callable[[Usage], None] | None] = ContextVar("replaying")
"""Told, where set, of each call that a task would have to make: it is refused, as a call that fails."""

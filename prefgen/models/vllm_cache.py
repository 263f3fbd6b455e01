"""How much of the prompts a vLLM engine read from its prefix cache, by vLLM's own count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class PrefixCache:
    """In the place of vLLM's stat loggers. `queries`: prompt tokens looked up, every draw of a prompt for
    itself; `hits`: those found."""

    queries: int = 0
    hits: int = 0

    @classmethod
    def counting(cls, llm: Any) -> PrefixCache:
        """The counter of an AsyncLLM made with `log_stats`, before its first request.

        Its other statistics, which cost time for every token, are switched off.
        """
        counter = cls()
        llm.logger_manager = counter
        llm.log_stats = llm.output_processor.log_stats = False
        return counter

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        """Called by vLLM after each step of the engine."""
        if scheduler_stats is not None:
            self.queries += scheduler_stats.prefix_cache_stats.queries
            self.hits += scheduler_stats.prefix_cache_stats.hits

    @property
    def hit_rate(self) -> float | None:
        return self.hits / self.queries if self.queries else None

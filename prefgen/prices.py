"""What tokens cost: `data/prices.yaml` with its dates, overruled by the user; unknown where neither tells."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache

from pydantic import BaseModel, ConfigDict, Field

from prefgen.assets import asset
from prefgen.completion import Completion
from prefgen.errors import UsageError
from prefgen.models import LOCAL_PROVIDERS, ModelSpec
from prefgen.yamlfile import read_yaml

_SNAPSHOT = re.compile(r"(?P<name>.+)-(\d{4}-\d{2}-\d{2}|\d{8})")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. `cached_input`: of input the provider had cached, `cache_write`: of what
    it was told to cache; None: as other input. `batch`: the share of this that a batch API asks. `source`:
    the page the price stood on at `as_of`, or the option it was given by."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    batch: float = 1.0
    source: str = "--price"
    as_of: str | None = None

    @property
    def free(self) -> bool:
        return self.most_input == self.output == 0

    @property
    def most_input(self) -> float:
        """Of a million input tokens, whatever the cache does."""
        return max(self.input, self.cached_input or 0.0, self.cache_write or 0.0)

    def cost(
        self, input_tokens: int, output_tokens: int, cached_tokens: int = 0, written_tokens: int = 0
    ) -> float:
        """US dollars; `cached_tokens`, and `written_tokens` to the cache, are part of `input_tokens`."""
        cached = self.input if self.cached_input is None else self.cached_input
        write = self.input if self.cache_write is None else self.cache_write
        fresh = (input_tokens - cached_tokens - written_tokens) * self.input
        return (fresh + cached_tokens * cached + written_tokens * write + output_tokens * self.output) / 1e6

    def of(self, completions: Iterable[Completion]) -> float:
        """US dollars for the tokens of completions that came from one call or several."""
        return sum(self._listed(item) * (self.batch if item.batched else 1.0) for item in completions)

    def saved(self, completions: Iterable[Completion]) -> float:
        """US dollars by which batches were cheaper."""
        return sum(self._listed(item) * (1.0 - self.batch) for item in completions if item.batched)

    @property
    def batched(self) -> Price:
        """What a batch asks."""
        cached, write, share = self.cached_input, self.cache_write, self.batch
        return replace(
            self,
            input=self.input * share,
            output=self.output * share,
            cached_input=None if cached is None else cached * share,
            cache_write=None if write is None else write * share,
            batch=1.0,
        )

    def _listed(self, item: Completion) -> float:
        return self.cost(
            item.input_tokens or 0,
            item.output_tokens or 0,
            item.cached_tokens or 0,
            item.cache_write_tokens or 0,
        )


FREE = Price(0.0, 0.0, source="runs here")


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    as_of: date


class _Provider(BaseModel):
    model_config = ConfigDict(extra="forbid")
    source: str
    batch: float = Field(gt=0, le=1)
    models: dict[str, _Row]


@cache
def price_table() -> Mapping[str, Price]:
    """The shipped prices by PROVIDER/NAME."""
    return {
        f"{provider}/{name}": Price(
            **row.model_dump(exclude={"as_of"}),
            batch=known.batch,
            source=known.source,
            as_of=row.as_of.isoformat(),
        )
        for provider, values in read_yaml(asset("prices.yaml")).items()
        for known in [_Provider.model_validate(values)]
        for name, row in known.models.items()
    }


def find_price(text: str, given: Mapping[str, Price]) -> Price | None:
    """The price of a model spec: 0 for a model in this process, else the user's, else the table's, which
    speaks of the providers' own services only. None: not known."""
    spec = ModelSpec.parse(text)
    if spec.provider in LOCAL_PROVIDERS:
        return given.get(spec.text, FREE)
    if spec.text in given or _elsewhere(spec):
        return given.get(spec.text)
    table, snapshot = price_table(), _SNAPSHOT.fullmatch(spec.text)
    return table.get(spec.text) or (table.get(snapshot["name"]) if snapshot else None)


def parse_prices(pairs: Sequence[str]) -> dict[str, Price]:
    """`MODEL=IN,OUT` or `MODEL=IN,CACHED,OUT` in US dollars per million tokens, by spec."""
    prices: dict[str, Price] = {}
    for pair in pairs:
        spec, _, numbers = pair.rpartition("=")
        try:
            asked = [float(number) for number in numbers.split(",")]
            if len(asked) not in (2, 3) or not all(0 <= number < math.inf for number in asked):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--price {pair!r}: expected MODEL=IN,OUT or MODEL=IN,CACHED,OUT in US dollars per million "
                "tokens, for example openai/NAME=2.5,10"
            ) from None
        cached = asked[1] if len(asked) == 3 else None
        known = ModelSpec.parse(spec)
        prices[known.text] = Price(asked[0], asked[-1], cached, batch=_batch_share(known))
    return prices


def _batch_share(spec: ModelSpec) -> float:
    """What the provider's own service asks for a batch; elsewhere all of the price, as nobody knows."""
    known = {} if _elsewhere(spec) else price_table()
    return max((known[name].batch for name in known if name.startswith(f"{spec.provider}/")), default=1.0)


def _elsewhere(spec: ModelSpec) -> str | None:
    return spec.base_url or os.environ.get(f"{spec.provider.upper()}_BASE_URL")

"""The models of a job: opened once each, behind engine and ledger, closed together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, TypeVar

from pipelines.batching import Batching, warn_of_open
from pipelines.console import Console
from prefgen.completion import Model, RewardModel
from prefgen.engine import Budget, Engine, EngineModel, EngineRewardModel, Limits
from prefgen.errors import ModelUnavailableError, UsageError
from prefgen.ledger import Ledger
from prefgen.messages import Json
from prefgen.models import LOCAL_PROVIDERS, REWARD_PROVIDERS, ModelSpec, open_model, open_reward_model
from prefgen.models.ensemble import EnsembleUse, find_ensemble
from prefgen.models.reloading import NotReloadedError, Reloadable, reload_checked
from prefgen.recorded import RecordedModel, RecordedRewardModel, Usage

Price = tuple[float, float]
T = TypeVar("T")
_REWARD = "reward:"
START_DEADLINE = 3600.0
"""Seconds a model may take to start, its download included."""


@dataclass(frozen=True, slots=True)
class _Opened:
    model: RecordedModel | RecordedRewardModel
    engine: Engine
    adapter: Model | RewardModel


@dataclass(slots=True)
class Roles:
    """Use as an async context manager. `prices`: US dollars per million (input, output) tokens by spec;
    models that run in this process cost nothing, others without a price have an unknown cost. `name`: see
    `again`. `ensemble`: how reward models that are one are combined. `batching`: of models that are asked
    through batches."""

    ledger: Ledger
    console: Console
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    options: Mapping[str, Json] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    engines: int = 1
    name: str | None = None
    ensemble: EnsembleUse = field(default_factory=EnsembleUse)
    batching: Batching | None = None
    _open: dict[str, _Opened] = field(default_factory=dict)
    _closed: list[_Opened] = field(default_factory=list)

    async def __aenter__(self) -> Roles:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.budget.close()
        if self.batching is not None:
            self.batching.leave()
        for name in [*self._open]:
            await asyncio.shield(self._close(name))

    def again(self, name: str) -> Roles:
        """The same models, asked anew: see `RecordedModel.again`."""
        return replace(self, name=name)

    async def model(self, text: str) -> RecordedModel:
        """The model of a spec, opened at first use. Raises as `prefgen.models.open_model`."""
        model = await self._model(text)
        return model if self.name is None else model.again(self.name)

    async def _model(self, text: str) -> RecordedModel:
        spec = ModelSpec.parse(text)
        known = self._open.get(spec.text)
        if known is not None and isinstance(known.model, RecordedModel):
            return known.model
        with self.console.step(f"starting {spec.text}"):
            adapter = await _in_time(spec, open_model(spec.text, self._options(spec), self.engines))
        return await self._keep(spec, adapter)

    async def _keep(self, spec: ModelSpec, adapter: Model) -> RecordedModel:
        engine = EngineModel(adapter, self.limits, self.budget)
        asked: Model = engine
        if self.batching is not None:
            asked = await self.batching.wrap(
                engine, adapter, self.ledger, self.budget, self.console, self._busy
            )
        elif spec.provider not in LOCAL_PROVIDERS:
            warn_of_open(spec.text, adapter.identity, self.ledger, self.console)
        model = RecordedModel(asked, self.ledger, self._usage(spec))
        self._open[spec.text] = _Opened(model, engine.engine, adapter)
        return model

    async def reward_model(self, text: str) -> RecordedRewardModel:
        """The reward model of a spec, opened at first use. Raises as `prefgen.models.open_reward_model`."""
        spec = ModelSpec.parse(text, REWARD_PROVIDERS)
        known = self._open.get(_REWARD + spec.text)
        if known is not None and isinstance(known.model, RecordedRewardModel):
            return known.model
        with self.console.step(f"starting {spec.text}"):
            adapter = await _in_time(spec, self._open_reward(spec))
        engine = EngineRewardModel(adapter, self.limits, self.budget)
        model = RecordedRewardModel(engine, self.ledger, self._usage(spec))
        self._open[_REWARD + spec.text] = _Opened(model, engine.engine, adapter)
        return model

    async def _open_reward(self, spec: ModelSpec) -> RewardModel:
        return await open_reward_model(spec.text, self._options(spec), self.engines, self.ensemble)

    async def replace(self, old: str, new: str) -> str:
        """Opens `new` in the place of `old`, by its weights in the running engine where that works.

        Says which it was: reloaded, or restarted and why. From then on it is another model, for the ledger
        too. Raises as `model`.
        """
        before, after = ModelSpec.parse(old), ModelSpec.parse(new)
        opened = self._open.get(before.text)
        if opened is None or before == after or before.provider != after.provider:
            return "started"
        reason = "this engine takes no other weights"
        if isinstance(opened.adapter, Reloadable) and isinstance(opened.model, RecordedModel):
            await opened.model.settle()
            try:
                with self.console.step(f"loading {after.text} into the running engine"):
                    await _in_time(after, reload_checked(opened.adapter, after.name, after.text))
            except NotReloadedError as error:
                reason = str(error)
            else:
                self._closed.append(self._open.pop(before.text))
                await self._keep(after, opened.adapter)
                return "reloaded"
        await self._close(before.text)
        await self._model(after.text)
        return f"restarted: {reason}"

    async def close(self, text: str, *, reward: bool = False) -> None:
        """Ends one model if it is open; its usage still counts."""
        name = (_REWARD if reward else "") + ModelSpec.parse(text).text
        if name in self._open:
            await self._close(name)

    async def close_all(self) -> None:
        """Ends all models; they open again when they are asked for."""
        for name in [*self._open]:
            await self._close(name)

    def take_usage(self) -> dict[str, Any]:
        """The usage since this was last called; `usage` counts anew from here on."""
        taken = self.usage
        for opened in self._all:
            opened.model.usage.clear()
            opened.engine.retries = opened.engine.rate_limited = 0
        self._closed.clear()
        return taken

    async def _close(self, name: str) -> None:
        opened = self._open.pop(name)
        self._closed.append(opened)
        await opened.model.aclose()

    def _busy(self) -> bool:
        """Whether a model that is asked directly is at work, whose answers may lead to further questions."""
        through = self.batching.models if self.batching is not None else {}
        return any(opened.model.busy for opened in self._open.values() if opened.model.spec not in through)

    @property
    def _all(self) -> list[_Opened]:
        return [*self._open.values(), *self._closed]

    def _options(self, spec: ModelSpec) -> Mapping[str, Json] | None:
        return self.options if spec.provider in LOCAL_PROVIDERS else None

    def _usage(self, spec: ModelSpec) -> Usage:
        if spec.provider in LOCAL_PROVIDERS:
            return Usage(price_in=0.0, price_out=0.0)
        price = self.prices.get(spec.text)
        return Usage(price_in=price[0], price_out=price[1]) if price else Usage()

    @property
    def usage(self) -> dict[str, Any]:
        """Totals for the manifest; `cost_usd` is None as soon as one model's price is unknown."""
        all_usage = [opened.model.usage for opened in self._all]
        costs = [usage.cost_usd for usage in all_usage if usage.requests or usage.cost_usd is not None]
        known = [cost for cost in costs if cost is not None]
        return {
            "requests": sum(usage.requests for usage in all_usage),
            "cached_requests": sum(usage.cached_requests for usage in all_usage),
            "input_tokens": sum(usage.input_tokens for usage in all_usage),
            "output_tokens": sum(usage.output_tokens for usage in all_usage),
            "cost_usd": sum(known) if len(known) == len(costs) else None,
            "retries": sum(opened.engine.retries for opened in self._all),
            "rate_limited": sum(opened.engine.rate_limited for opened in self._all),
        }

    def served(self, text: str, *, reward: bool = False) -> dict[str, Any]:
        """A model's entry in the manifest: as asked for, as served, and what it turned out not to do."""
        model = self._open[(_REWARD if reward else "") + ModelSpec.parse(text).text].model
        entry: dict[str, Any] = {"spec": model.spec, "served": model.identity}
        if isinstance(model, RecordedModel):
            entry["served"] = ", ".join(sorted(model.served)) or model.identity
            entry["identity"] = model.identity
            entry["capabilities_missing"] = model.capabilities.missing
        return entry

    @property
    def identities(self) -> list[str]:
        """Of the models that are open, in the order of their specs."""
        return [self._open[name].model.identity for name in sorted(self._open)]

    @property
    def state(self) -> str:
        """One line for the progress display."""
        usage = self.usage
        cost = "cost unknown" if usage["cost_usd"] is None else f"${usage['cost_usd']:.2f}"
        return f"{usage['requests']} calls, {usage['cached_requests']} from ledger, {cost}"


async def _in_time(spec: ModelSpec, opening: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(opening, START_DEADLINE)
    except TimeoutError as error:
        raise ModelUnavailableError(f"{spec.text}: not ready after {START_DEADLINE:.0f} s") from error


def count_engines(specs: Sequence[str | None]) -> int:
    """How many vLLM engines a process with these models holds."""
    names = {spec.removeprefix("vllm/") for spec in specs if spec and spec.startswith("vllm/")}
    ensembles = [find_ensemble(name) for name in names]
    return max(1, sum(len(ensemble.members) if ensemble else 1 for ensemble in ensembles))


def parse_options(pairs: Sequence[str]) -> dict[str, Json]:
    """`key=value` engine arguments; values are JSON where they parse as JSON, else text."""
    import json

    options: dict[str, Json] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"--engine-arg {pair!r}: expected KEY=VALUE, for example max_model_len=4096")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def parse_prices(pairs: Sequence[str]) -> dict[str, Price]:
    """`MODEL=IN,OUT` in US dollars per million tokens."""
    prices: dict[str, Price] = {}
    for pair in pairs:
        spec, _, numbers = pair.rpartition("=")
        try:
            price_in, price_out = (float(number) for number in numbers.split(","))
            if not (0 <= price_in < math.inf and 0 <= price_out < math.inf):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--price {pair!r}: expected MODEL=IN,OUT in US dollars per million tokens, "
                "for example openai/NAME=2.5,10"
            ) from None
        prices[ModelSpec.parse(spec).text] = (price_in, price_out)
    return prices

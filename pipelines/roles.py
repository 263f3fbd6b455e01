"""The models of a job: opened once each, behind engine and ledger, closed together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from pipelines.batching import Batching, warn_of_open
from pipelines.console import Console
from prefgen.budget import Account, Budget
from prefgen.completion import Model, RewardModel
from prefgen.engine import Engine, EngineModel, EngineRewardModel, Limits
from prefgen.errors import ModelUnavailableError, UsageError
from prefgen.finishing import Finishing
from prefgen.ledger import Ledger, LedgerError, Paid
from prefgen.messages import Json
from prefgen.models import LOCAL_PROVIDERS, REWARD_PROVIDERS, ModelSpec, open_model, open_reward_model
from prefgen.models.ensemble import EnsembleUse, find_ensemble
from prefgen.models.reloading import NotReloadedError, Reloadable, reload_checked
from prefgen.prices import Price, find_price
from prefgen.recorded import RecordedModel, RecordedRewardModel
from prefgen.usage import Usage

Role: TypeAlias = Literal["policy", "judge"]
"""Who writes, and who judges: what money is told apart by."""
T = TypeVar("T")
REWARD = "reward:"
_SECRET = re.compile(r"(?i)(?:^|_)(?:token|key|password|secret)$")
_UNANSWERED = "unanswered"
VLLM_CALLS = 256
"""Calls under way at least for vLLM in this process."""
START_DEADLINE = 3600.0
"""Seconds a model may take to start, its download included."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """`models`: the same one in each role it has."""

    engine: Engine
    adapter: Model | RewardModel
    models: dict[Role, RecordedModel | RecordedRewardModel]

    @property
    def model(self) -> RecordedModel | RecordedRewardModel:
        return next(iter(self.models.values()))


@dataclass(slots=True)
class Roles:
    """Use as an async context manager. `prices`: those the user gave, by spec; `prefgen.prices` knows others.
    `name`: see `again`. `ensemble`: how reward models that are one are combined. `run`: see `begin`.
    `batching`: of models that are asked through batches. `shared`: puts the calls to a server under limits
    that are not this process's alone."""

    ledger: Ledger
    console: Console
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    options: Mapping[str, Json] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    engines: int = 1
    name: str | None = None
    ensemble: EnsembleUse = field(default_factory=EnsembleUse)
    run: str | None = None
    batching: Batching | None = None
    shared: Callable[[str, Engine], None] | None = None
    _open: dict[str, _Opened] = field(default_factory=dict)
    _closed: list[_Opened] = field(default_factory=list)
    _before: dict[Role, list[Paid]] = field(default_factory=dict)
    _lost: dict[str, Paid] = field(default_factory=dict)
    _charging: Finishing = field(default_factory=Finishing)

    async def __aenter__(self) -> Roles:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.budget.close()
        if self.batching is not None:
            self.batching.leave()
        if isinstance(error, asyncio.CancelledError):
            self.console.note("ending: calls in flight are waited for and kept; Ctrl-C again gives them up")
        for name in [*self._open]:
            await asyncio.shield(self._close(name))
        await asyncio.shield(self._charging.wait())

    def begin(self, run: str) -> None:
        """What is paid from here on is booked under the id of a run. What that paid before counts for the
        budget and in `usage`."""
        self.run = run
        for role in get_args(Role):
            for usage in self._usages(role):
                usage.run = run
        self._read_spending()
        spent = [*self._lost.values(), *(paid for told in self._before.values() for paid in told)]
        self.budget.begin(sum(paid.requests for paid in spent), sum(paid.cost_usd or 0.0 for paid in spent))

    def _read_spending(self) -> None:
        run, spent = self.run, self.ledger.spent
        self._before = {
            role: [self._priced(paid) for paid in spent(f"{run}/{role}").values()] for role in get_args(Role)
        }
        self._lost = spent(f"{run}/{_UNANSWERED}")

    def _priced(self, paid: Paid) -> Paid:
        """What was paid before its price was known, at the price that is known now."""
        price = self.price(paid.model)
        if paid.cost_usd is not None or price is None:
            return paid
        return replace(paid, cost_usd=price.cost(paid.input_tokens, paid.output_tokens, paid.cached_tokens))

    def again(self, name: str | None) -> Roles:
        """The same models, asked anew: see `RecordedModel.again`; None: as the run asks them."""
        return replace(self, name=name)

    async def model(self, text: str, role: Role = "policy") -> RecordedModel:
        """The model of a spec, opened at first use. Raises as `prefgen.models.open_model`."""
        model = await self._model(text, role)
        return model if self.name is None else model.again(self.name)

    async def _model(self, text: str, role: Role) -> RecordedModel:
        spec = ModelSpec.parse(text)
        known = self._open.get(spec.text)
        if known is None:
            with self.console.step(f"starting {spec.text}"):
                adapter = await _in_time(spec, open_model(spec.text, self._options(spec), self.engines))
            return await self._keep(spec, adapter, role)
        if role not in known.models:
            assert isinstance(known.model, RecordedModel), "reward models have names of their own"
            known.models[role] = known.model.charged_to(self._usage(spec, role))
        model = known.models[role]
        assert isinstance(model, RecordedModel)
        return model

    async def _keep(self, spec: ModelSpec, adapter: Model, role: Role) -> RecordedModel:
        engine = EngineModel(adapter, self._limits(spec), self._account(spec))
        asked: Model = engine
        if self.batching is not None:
            account = self._account(spec, batched=True)
            asked = await self.batching.wrap(engine, adapter, self.ledger, account, self.console, self._busy)
        elif spec.provider not in LOCAL_PROVIDERS:
            warn_of_open(spec.text, adapter.identity, self.ledger, self.console)
        # Whose batch a question is in is known to all processes.
        usage = self._usage(spec, role)
        model = RecordedModel(asked, self.ledger, usage, claiming=asked is engine)
        self._share(spec, spec.text, engine.engine)
        self._open[spec.text] = _Opened(engine.engine, adapter, {role: model})
        return model

    def _limits(self, spec: ModelSpec) -> Limits:
        """vLLM in this process has a queue of its own, and must not run dry."""
        if spec.provider != "vllm":
            return self.limits
        return replace(self.limits, concurrency=max(VLLM_CALLS, self.limits.concurrency))

    def _share(self, spec: ModelSpec, name: str, engine: Engine) -> None:
        if self.shared is not None and spec.provider not in LOCAL_PROVIDERS:
            self.shared(name, engine)

    async def reward_model(self, text: str) -> RecordedRewardModel:
        """The reward model of a spec, opened at first use. Raises as `prefgen.models.open_reward_model`."""
        spec = ModelSpec.parse(text, REWARD_PROVIDERS)
        known = self._open.get(REWARD + spec.text)
        if known is not None and isinstance(known.model, RecordedRewardModel):
            return known.model
        with self.console.step(f"starting {spec.text}"):
            adapter = await _in_time(spec, self._open_reward(spec))
        engine = EngineRewardModel(adapter, self.limits, self._account(spec))
        usage = self._usage(spec, "judge")
        if usage.price is not None and not usage.price.free:
            usage.price = None  # A score comes without a count of tokens.
        model = RecordedRewardModel(engine, self.ledger, usage)
        self._share(spec, REWARD + spec.text, engine.engine)
        self._open[REWARD + spec.text] = _Opened(engine.engine, adapter, {"judge": model})
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
                await self._keep(after, opened.adapter, next(iter(opened.models)))
                return "reloaded"
        await self._close(before.text)
        await self._model(after.text, next(iter(opened.models)))
        return f"restarted: {reason}"

    async def close(self, text: str, *, reward: bool = False) -> None:
        """Ends one model if it is open; its usage still counts."""
        name = (REWARD if reward else "") + ModelSpec.parse(text).text
        if name in self._open:
            await self._close(name)

    async def settle(self) -> None:
        """Waits for the calls that are under way."""
        for opened in self._open.values():
            for model in opened.models.values():
                await model.settle()

    async def close_all(self) -> None:
        """Ends all models; they open again when they are asked for."""
        for name in [*self._open]:
            await self._close(name)

    def take_usage(self) -> dict[str, Any]:
        """What this process used since this was last called; all that is told counts anew from here on."""
        taken = self.used
        for opened in self._all:
            for model in opened.models.values():
                model.usage.clear()
            opened.engine.retries = opened.engine.rate_limited = 0
        self._closed.clear()
        self._before.clear()
        self._lost.clear()
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

    def price(self, text: str) -> Price | None:
        return find_price(text, self.prices)

    def _usage(self, spec: ModelSpec, role: Role) -> Usage:
        batched = self.batching is not None and spec.text in self.batching.models
        return Usage(self.price(spec.text), role, self.run, batched)

    def _account(self, spec: ModelSpec, batched: bool = False) -> Account:
        price = self.price(spec.text)
        price = price.batched if batched and price is not None else price
        return Account(self.budget, price, lambda usd: self._lose(spec, usd))

    def _lose(self, spec: ModelSpec, usd: float) -> None:
        """An attempt that gave no answer is booked apart: whether it was billed nobody knows."""
        if self.run is not None:
            paid = Paid(f"{self.run}/{_UNANSWERED}", spec.text, 1, cost_usd=usd)
            known = self._lost.get(spec.text, replace(paid, requests=0, cost_usd=0.0))
            cost = (known.cost_usd or 0.0) + usd
            self._lost[spec.text] = replace(known, requests=known.requests + 1, cost_usd=cost)
            self._charging.shield(self._charge(paid))

    async def _charge(self, paid: Paid) -> None:
        with suppress(LedgerError):  # Whoever has an answer to write down will say so.
            await self.ledger.charge(paid)

    @property
    def used(self) -> dict[str, Any]:
        """What this process used, in totals; `cost_usd` is None as soon as one model's price is unknown."""
        return self._tell([usage for role in get_args(Role) for usage in self._usages(role)], [])

    @property
    def usage(self) -> dict[str, Any]:
        """The same of the whole run, over all its resumptions, for the manifest; with what each role used and
        what attempts without an answer may have cost besides. `cached_requests`, `retries` and `rate_limited`
        are this process's."""
        told = {role: (self._usages(role), self._before.get(role, [])) for role in get_args(Role)}
        by_role = {role: self._tell(*parts) for role, parts in told.items()}
        everything = [part for parts, _ in told.values() for part in parts]
        whole = self._tell(everything, [paid for _, before in told.values() for paid in before])
        kept = ("requests", "input_tokens", "cached_tokens", "output_tokens", "cost_usd")
        return whole | {
            "unanswered_usd": sum(paid.cost_usd or 0.0 for paid in self._lost.values()),
            "by_role": {role: {name: parts[name] for name in kept} for role, parts in by_role.items()},
        }

    def _usages(self, role: Role) -> list[Usage]:
        return [opened.models[role].usage for opened in self._all if role in opened.models]

    def _tell(self, usages: Sequence[Usage], before: Sequence[Paid]) -> dict[str, Any]:
        costs = [usage.cost_usd for usage in usages if usage.requests] + [paid.cost_usd for paid in before]
        known = [cost for cost in costs if cost is not None]
        parts: list[Usage | Paid] = [*usages, *before]
        return {
            "requests": sum(part.requests for part in parts),
            "cached_requests": sum(usage.cached_requests for usage in usages),
            "input_tokens": sum(part.input_tokens for part in parts),
            "cached_tokens": sum(part.cached_tokens for part in parts),
            "output_tokens": sum(part.output_tokens for part in parts),
            "cost_usd": sum(known) if len(known) == len(costs) else None,
            "retries": sum(opened.engine.retries for opened in self._all),
            "rate_limited": sum(opened.engine.rate_limited for opened in self._all),
        }

    def served(self, text: str, *, reward: bool = False) -> dict[str, Any]:
        """A model's entry in the manifest: as asked for, as served, and what it turned out not to do."""
        opened = self._open[(REWARD if reward else "") + ModelSpec.parse(text).text]
        model = opened.model
        entry: dict[str, Any] = {"spec": model.spec, "served": model.identity}
        if isinstance(model, RecordedModel):
            entry["served"] = ", ".join(self.served_names(text)) or model.identity
            entry["identity"] = model.identity
            entry["capabilities_missing"] = model.capabilities.missing
            if (rate := getattr(opened.adapter, "prefix_cache_hit_rate", None)) is not None:
                entry["prefix_cache_hit_rate"] = round(rate, 4)
        return entry

    def served_names(self, text: str) -> list[str]:
        """The names a model has answered under, in this run and in the ledger's answers to it."""
        model = self._open[ModelSpec.parse(text).text].model
        return sorted(model.served) if isinstance(model, RecordedModel) else []

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
        if _SECRET.search(key):
            raise UsageError(f"--engine-arg {key}: options are written to disk; set HF_TOKEN instead")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options

"""Models behind the ledger: a question asked before is answered from disk.

Same model, messages, parameters and sample index: never paid twice, in this run or any other.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import cast
from weakref import WeakValueDictionary

from prefgen.completion import (
    Completion,
    CompletionRequest,
    FinishReason,
    Model,
    Reply,
    RewardModel,
)
from prefgen.errors import RequestRefusedError
from prefgen.finishing import Finishing
from prefgen.ledger import Ledger, ledger_key
from prefgen.messages import Json, Messages, as_dicts
from prefgen.usage import Usage, counting, replaying


class RecordedModel:
    """A `Model` whose answers are looked up in the ledger first and written to it before they are used.

    `claiming`: a question that another process is asking is waited for. Not where a model sees to that.
    """

    def __init__(
        self, model: Model, ledger: Ledger, usage: Usage | None = None, *, claiming: bool = True
    ) -> None:
        self._model, self._ledger, self._claiming = model, ledger, claiming
        self._asking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._finishing = Finishing()
        self.usage = usage or Usage()
        self.served: set[str] = set()
        self.spec, self.identity = model.spec, model.identity
        self.capabilities = model.capabilities
        self._name: str | None = None

    def again(self, name: str) -> RecordedModel:
        """The same model asked anew: from the ledger it knows only what it was asked under `name`."""
        other = copy.copy(self)
        other._name = name
        return other

    def charged_to(self, usage: Usage) -> RecordedModel:
        """The same model, in another role."""
        other = copy.copy(self)
        other.usage = usage
        return other

    def knows(self, request: CompletionRequest) -> bool:
        """Whether the ledger has all that is asked for."""
        keys = [self.key(request, sample) for sample in request.samples]
        return len(self._ledger.get(keys)) == len(keys)

    def key(self, request: CompletionRequest, sample: int = 0) -> bytes:
        return ledger_key(self.identity, self._named(request).identity(), sample)

    def _named(self, request: CompletionRequest) -> CompletionRequest:
        return request if self._name is None else replace(request, again=self._name)

    async def complete(self, request: CompletionRequest) -> Reply:
        keys = {sample: self.key(request, sample) for sample in request.samples}
        # The same question asked twice at once is paid once: the second asker waits, then finds it.
        lock = self._asking.setdefault(keys[request.samples[0]], asyncio.Lock())
        async with lock:
            return await self._complete(request, keys)

    async def _complete(self, request: CompletionRequest, keys: dict[int, bytes]) -> Reply:
        known = self._ledger.get(list(keys.values()))
        # A model that gives one answer a call is asked for each by itself, so that each is kept.
        apart = self.capabilities.lacks("n")
        if len(known) < len(keys):
            _refuse_in_replay(self.usage)
            first = keys[request.samples[0]]
            if self._claiming and await self._ledger.claims.take(first):
                known = self._ledger.get(list(keys.values()))
            try:
                known |= await self._ask(request, keys, known, apart)
            finally:
                if self._claiming:
                    self._ledger.claims.free(first)
        else:
            self.usage.cached_requests += 1
        completions, served = zip(*(_from_json(known[key]) for key in keys.values()), strict=True)
        self.served.update(served)
        count = counting.get(None)
        if count is not None:
            count(self.usage, len(keys) if apart else 1, completions)
        return Reply(completions, served[0])

    async def _ask(
        self,
        request: CompletionRequest,
        keys: dict[int, bytes],
        known: Mapping[bytes, dict[str, Json]],
        apart: bool,
    ) -> dict[bytes, dict[str, Json]]:
        missing = tuple(sample for sample, key in keys.items() if key not in known)
        if not missing:
            self.usage.cached_requests += 1
            return {}
        groups = [(sample,) for sample in missing] if apart else [missing]
        paid = [self._finishing.shield(self._pay(_only(request, group), keys)) for group in groups]
        if len(paid) == 1:  # As most calls, and gather costs.
            return await paid[0]
        return {key: value for fresh in await asyncio.gather(*paid) for key, value in fresh.items()}

    async def _pay(self, request: CompletionRequest, keys: dict[int, bytes]) -> dict[bytes, dict[str, Json]]:
        reply = await self._model.complete(self._named(request))
        paid = self.usage.add(self.spec, reply.completions)
        if len(reply.completions) != len(request.samples):
            given, asked = len(reply.completions), len(request.samples)
            if paid is not None:
                await self._ledger.charge(paid)
            raise RequestRefusedError(f"{self.spec} gave {given} completions where {asked} were asked for")
        fresh = {
            keys[sample]: _to_json(completion, reply.served)
            for sample, completion in zip(request.samples, reply.completions, strict=True)
        }
        return await self._ledger.put(self.identity, fresh, paid)

    @property
    def busy(self) -> bool:
        """Whether the model is being asked."""
        return self._finishing.busy

    async def settle(self) -> None:
        """Waits for the calls that are under way."""
        await self._finishing.wait()

    async def aclose(self) -> None:
        await self.settle()
        await self._model.aclose()


class RecordedRewardModel:
    """A `RewardModel` behind the ledger."""

    def __init__(self, model: RewardModel, ledger: Ledger, usage: Usage | None = None) -> None:
        self._model, self._ledger = model, ledger
        self._finishing = Finishing()
        self.usage = usage or Usage()
        self.spec, self.identity = model.spec, model.identity

    def key(self, messages: Messages, response: str) -> bytes:
        question: Json = {"messages": [dict(item) for item in as_dicts(messages)], "response": response}
        return ledger_key(self.identity, question)

    async def score(self, messages: Messages, response: str) -> float:
        """The stored score, or a fresh one, stored."""
        key = self.key(messages, response)
        known = self._ledger.get([key])
        if key not in known:
            _refuse_in_replay(self.usage)
        count = counting.get(None)
        if count is not None:
            count(self.usage, 1, ())
        if key in known:
            self.usage.cached_requests += 1
            return cast(float, known[key]["score"])
        return await self._finishing.shield(self._pay(key, messages, response))

    async def _pay(self, key: bytes, messages: Messages, response: str) -> float:
        score = await self._model.score(messages, response)
        paid = self.usage.add(self.spec, ())
        kept = await self._ledger.put(self.identity, {key: {"score": score}}, paid)
        return cast(float, kept[key]["score"])

    @property
    def busy(self) -> bool:
        """Whether the model is being asked."""
        return self._finishing.busy

    async def settle(self) -> None:
        """Waits for the calls that are under way."""
        await self._finishing.wait()

    async def aclose(self) -> None:
        await self.settle()
        await self._model.aclose()


def _refuse_in_replay(usage: Usage) -> None:
    told = replaying.get(None)
    if told is not None:
        told(usage)
        raise RequestRefusedError("not in the ledger, from which alone this is answered")


def _to_json(completion: Completion, served: str) -> dict[str, Json]:
    # Half a surrogate pair is no text: neither UTF-8 nor a Parquet file can hold it.
    text = completion.text.encode(errors="replace").decode()
    logprobs = completion.label_logprobs
    return {
        "text": text,
        "finish_reason": completion.finish_reason,
        "label_logprobs": None if logprobs is None else dict(logprobs),
        "input_tokens": completion.input_tokens,
        "output_tokens": completion.output_tokens,
        "cached_tokens": completion.cached_tokens,
        "cache_write_tokens": completion.cache_write_tokens,
        **({"batched": True} if completion.batched else {}),
        "served": served,
    }


def _only(request: CompletionRequest, samples: tuple[int, ...]) -> CompletionRequest:
    return request if samples == request.samples else replace(request, samples=samples)


def _from_json(value: dict[str, Json]) -> tuple[Completion, str]:
    logprobs = cast("dict[str, float] | None", value["label_logprobs"])
    completion = Completion(
        text=cast(str, value["text"]),
        finish_reason=cast(FinishReason, value["finish_reason"]),
        label_logprobs=logprobs,
        input_tokens=cast("int | None", value["input_tokens"]),
        output_tokens=cast("int | None", value["output_tokens"]),
        cached_tokens=cast("int | None", value["cached_tokens"]),
        # Ledgers of before this field hold answers without it.
        cache_write_tokens=cast("int | None", value.get("cache_write_tokens")),
        batched="batched" in value,
    )
    return completion, cast(str, value["served"])

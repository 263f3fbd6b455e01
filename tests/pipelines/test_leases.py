"""One limit and one budget for all workers, whatever they do and whoever dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.distributed.broker import Broker, Demand, Funds, Grant, Need, fair_shares
from pipelines.distributed.leases import HEARTBEAT, Leases
from pipelines.distributed.workers import worker_share
from pipelines.generate_config import GenerateConfig
from prefgen.budget import Account
from prefgen.completion import CompletionRequest, Sampling
from prefgen.engine import EngineModel, Limits
from prefgen.errors import BudgetError, RateLimitError, TransientError
from prefgen.messages import user
from prefgen.models.scripted import Answer, ScriptedModel
from prefgen.pace import Pace, PerMinute, Size
from prefgen.prices import Price


def test_what_one_does_not_want_another_gets() -> None:
    assert fair_shares(10, {"a": 1, "b": 100}) == {"a": 1, "b": 9}
    assert fair_shares(10, {"a": 50, "b": 100}) == {"a": 5, "b": 5}
    assert fair_shares(10, {"a": 2, "b": 3, "c": 0}) == {"a": 5, "b": 5, "c": 0}
    assert fair_shares(1, {"a": 2, "b": 3}) == {"a": 0, "b": 1}


async def test_what_a_provider_allows_a_minute_is_divided_among_the_workers() -> None:
    config = GenerateConfig(
        prompts=Path("p"), out=Path("o"), policy=("openai/a",), judge=("openai/b",), engine="ray",
        policy_workers=2, judge_workers=5,
    )  # fmt: skip
    assert 0.9 < 2 * worker_share(config, "openai/a") < 1
    assert 0.9 < 5 * worker_share(config, "openai/b") < 1
    pace = Pace(PerMinute(requests=120)).share(0.5)
    for _ in range(5):  # Five seconds' worth may come at once.
        await asyncio.wait_for(pace.enter(Size()), 0.5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.enter(Size()), 0.5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def call(broker: Broker, worker: str, holding: int, wanted: int, **more: float) -> int:
    """A word with the broker about one model; how many calls it allows."""
    said = Demand(holding=holding, inside=holding, wanted=wanted, **more)  # type: ignore[arg-type]
    return broker.speak(Need(worker, {"m": said})).calls["m"].most


def test_a_slot_counts_as_held_until_it_is_given_back() -> None:
    broker = Broker(10)
    assert call(broker, "a", 0, 20) == 10
    assert call(broker, "b", 0, 20) == 0
    assert call(broker, "a", 10, 20) == 5
    assert call(broker, "b", 0, 20) == 0
    assert call(broker, "a", 5, 20) == 5
    assert call(broker, "b", 0, 20) == 5


def test_a_dead_worker_holds_nothing_and_its_lease_counts_as_spent() -> None:
    clock = Clock()
    broker = Broker(10, requests=20, silence=30, clock=clock)
    granted = broker.speak(Need("a", {"m": Demand(wanted=10)}, least=Funds(1), more=Funds(9)))
    assert granted.calls["m"].most == 10
    assert granted.lease.requests == 10
    clock.now = 31.0
    granted = broker.speak(Need("b", {"m": Demand(wanted=10)}, least=Funds(1), more=Funds(99)))
    assert granted.calls["m"].most == 10
    assert granted.spent.requests == 10
    assert granted.lease.requests == 5


def test_one_refused_call_slows_all_down() -> None:
    clock = Clock()
    broker = Broker(8, clock=clock)
    call(broker, "a", 0, 2)
    call(broker, "b", 0, 2)
    refused = broker.speak(Need("a", {"m": Demand(2, 2, 2, 0, 7.0)})).calls["m"]
    other = broker.speak(Need("b", {"m": Demand(2, 2, 9)})).calls["m"]
    assert refused.closed_for == other.closed_for == 7.0
    assert other.most <= 4


def test_the_run_is_finished_when_all_who_called_have_heard_and_have_no_call_left() -> None:
    broker = Broker(8)
    call(broker, "a", 0, 2)
    call(broker, "a", 2, 2)
    broker.end(True)
    assert not broker.finished()
    assert broker.speak(Need("a", {"m": Demand(2, 0, 0)})).ending
    assert not broker.finished()
    broker.speak(Need("a", {"m": Demand(2, 1, 1)}))
    assert not broker.finished()
    broker.speak(Need("a", {"m": Demand(0, 0, 0)}))
    assert broker.finished()


class Office:
    """Workers that share a broker, in one process; each has an engine around a model of the test's."""

    def __init__(self, broker: Broker, answer: Callable[[], Answer], latency: float = 0.002) -> None:
        self.broker, self._answer, self._latency = broker, answer, latency
        self.inside = self.most = self.sent = self.words = 0

    async def ask(self, need: Need) -> Grant:
        await asyncio.sleep(random.uniform(0, 0.003))
        self.words += 1
        grant = self.broker.speak(need)
        await asyncio.sleep(random.uniform(0, 0.003))
        return grant

    def worker(
        self, requests: int | None = None, usd: float | None = None, price: Price | None = None
    ) -> tuple[Leases, EngineModel]:
        office = self

        class Model(ScriptedModel):
            async def complete(self, request: CompletionRequest):  # type: ignore[no-untyped-def]
                office.inside += 1
                office.sent += 1
                office.most = max(office.most, office.inside)
                try:
                    return await super().complete(request)
                finally:
                    office.inside -= 1

        leases = Leases(self.ask, requests, usd, lambda model: 1.0)
        model = Model(lambda request, sample: office._answer(), latency=self._latency)
        account = Account(leases.budget, price) if price else Account(leases.budget)
        engine = EngineModel(model, Limits(concurrency=64, attempts=3, first_wait=0.001), account)
        leases.limit("m", engine.engine)
        return leases, engine


async def ask_all(engine: EngineModel, count: int, words: int = 1) -> list[object]:
    request = CompletionRequest(user("word " * words), Sampling(max_tokens=10))
    return await asyncio.gather(*(engine.complete(request) for _ in range(count)), return_exceptions=True)


async def test_all_workers_together_keep_to_the_limit_and_use_it() -> None:
    office = Office(Broker(8), lambda: "yes", latency=0.01)
    made = [office.worker() for _ in range(3)]
    done = await asyncio.gather(
        *(ask_all(engine, count) for (_, engine), count in zip(made, (200, 100, 20), strict=True))
    )
    assert office.sent == 320
    assert not any(isinstance(answer, Exception) for answers in done for answer in answers)
    assert 6 <= office.most <= 8
    for leases, _ in made:
        await leases.aclose()
    assert office.broker.finished()


async def test_words_with_the_broker_are_few_however_many_calls() -> None:
    office = Office(Broker(64), lambda: "yes", latency=0.001)
    leases, engine = office.worker()
    await ask_all(engine, 3000)
    await leases.aclose()
    assert office.words < 300


@pytest.mark.parametrize("cap", [1, 7, 100])
async def test_a_budget_of_requests_is_spent_to_the_last_and_not_passed(cap: int) -> None:
    """Failed tries included."""
    draw = random.Random(3)
    office = Office(Broker(16, requests=cap), lambda: TransientError("no") if draw.random() < 0.2 else "yes")
    made = [office.worker(requests=cap) for _ in range(3)]
    done = await asyncio.gather(*(ask_all(engine, 100) for _, engine in made))
    assert office.sent == cap
    refused = [answer for answers in done for answer in answers if isinstance(answer, BudgetError)]
    assert len(refused) >= 300 - cap
    assert f"the budget of {cap} requests is used up" in str(refused[0])
    for leases, _ in made:
        await leases.aclose()


async def test_a_budget_in_dollars_is_never_passed() -> None:
    price = Price(input=1000.0, output=1000.0)
    office = Office(Broker(16, usd=1.0), lambda: "one two three")
    made = [office.worker(usd=1.0, price=price) for _ in range(3)]
    done = await asyncio.gather(*(ask_all(engine, 100, words=5) for _, engine in made))
    spent = sum(leases.budget.paid_usd for leases, _ in made)
    assert 0.5 < spent <= 1.0
    refused = [answer for answers in done for answer in answers if isinstance(answer, BudgetError)]
    assert "the budget of $1 is reached" in str(refused[0])
    for leases, _ in made:
        await leases.aclose()


async def test_a_429_to_one_worker_holds_up_the_others() -> None:
    refusals: list[Exception] = []
    office = Office(Broker(8), lambda: refusals.pop() if refusals else "yes", latency=0.001)
    (one, first), (two, second) = office.worker(), office.worker()
    await ask_all(second, 4)
    refusals.append(RateLimitError("slow down", 2.0))
    waiting = asyncio.create_task(ask_all(first, 1))
    await asyncio.sleep(2 * HEARTBEAT)
    assert not refusals
    before = office.sent
    held = asyncio.create_task(ask_all(second, 4))
    await asyncio.sleep(2 * HEARTBEAT)
    assert office.sent == before
    await asyncio.gather(waiting, held)
    assert office.sent == before + 5
    await one.aclose()
    await two.aclose()

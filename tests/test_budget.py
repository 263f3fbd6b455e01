"""The budget: never a cent more, whatever happens at once; and who waits for whom."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

import pytest

from prefgen.budget import Account, Budget, size
from prefgen.completion import Completion, CompletionRequest, Reply, Sampling
from prefgen.engine import EngineModel, Limits
from prefgen.errors import BudgetError, DeadlineError, TransientError
from prefgen.messages import user
from prefgen.models.scripted import ScriptedModel
from prefgen.prices import Price

DOLLAR = Price(1.0, 1.0)
"""A dollar a million tokens, so that a token is a micro-dollar."""


def ask(text: str = "x" * 36, max_tokens: int = 100, draws: int = 1) -> CompletionRequest:
    """36 bytes and 64 for the template: a hundred tokens of input at most."""
    return CompletionRequest(user(text), Sampling(max_tokens), tuple(range(draws)))


def reply(input_tokens: int | None = 10, output_tokens: int | None = 20) -> Reply:
    return Reply((Completion("x", input_tokens=input_tokens, output_tokens=output_tokens),), "served")


def micro(budget: Budget) -> float:
    return round(budget.paid_usd * 1e6, 6)


async def spend(account: Account, answer: Reply | Exception, request: CompletionRequest) -> None:
    async with account.hold(request) as hold:
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        hold.answered(answer)


def test_the_most_a_call_can_cost_by_hand() -> None:
    account = Account(Budget(cost_usd=1), Price(2.0, 10.0, cached_input=1.0))
    assert account.most(ask()) == pytest.approx((100 * 2 + 100 * 10) / 1e6)
    assert account.most(ask(draws=3)) == pytest.approx(3 * (100 * 2 + 100 * 10) / 1e6)
    assert account.most(ask("é" * 18)) == account.most(ask())
    dear_cache = Account(Budget(cost_usd=1), Price(2.0, 0.0, cached_input=1.0, cache_write=2.5))
    assert dear_cache.most(ask()) == pytest.approx(250 / 1e6)
    assert Account(Budget(), Price(2.0, 10.0)).most(ask()) == 0.0, "nobody asks"


def test_a_schema_and_choices_are_read_too() -> None:
    plain = ask()
    assert size(CompletionRequest(plain.messages, choices=("yes", "no"))) == size(plain) + 5
    assert size(CompletionRequest(plain.messages, schema={"type": "object"})) == size(plain) + 18


async def test_what_an_answer_cost_is_booked_in_place_of_what_it_could() -> None:
    budget = Budget(cost_usd=1)
    account = Account(budget, Price(2.0, 10.0, cached_input=1.0))
    completion = Completion("x", input_tokens=50, output_tokens=7, cached_tokens=40)
    await spend(account, Reply((completion,), "served"), ask())
    assert micro(budget) == 10 * 2 + 40 * 1 + 7 * 10
    await spend(account, reply(None), ask())
    assert micro(budget) == 130 + 100 * 2 + 100 * 10, "who does not count is taken at the most"


async def test_an_attempt_without_an_answer_in_time_counts_at_its_most_and_an_error_costs_nothing() -> None:
    budget, lost = Budget(cost_usd=1), list[float]()
    account = Account(budget, DOLLAR, lost.append)
    with pytest.raises(TransientError):
        await spend(account, TransientError("500"), ask())
    assert (micro(budget), budget.sent) == (0, 1)
    with pytest.raises(DeadlineError):
        await spend(account, DeadlineError("late"), ask())
    assert (micro(budget), budget.sent) == (200, 2)
    assert lost == [0.0, pytest.approx(200e-6)]


async def test_after_twenty_answers_twice_what_a_byte_made_is_enough() -> None:
    account = Account(Budget(cost_usd=1), DOLLAR)
    for number in range(19):
        await spend(account, reply(input_tokens=25 if number else 30), ask())
    assert account.most(ask()) == pytest.approx(200e-6)
    await spend(account, reply(input_tokens=20), ask())
    assert account.most(ask()) == pytest.approx((2 * 30 + 100) / 1e6)


async def test_a_model_that_counts_more_than_the_bytes_is_believed() -> None:
    account = Account(Budget(cost_usd=1), DOLLAR)
    await spend(account, reply(input_tokens=300), ask())
    assert account.most(ask()) == pytest.approx(400e-6)


async def test_calls_wait_until_others_are_booked_and_go_in_turn() -> None:
    budget = Budget(cost_usd=500e-6)
    account, order = Account(budget, DOLLAR), list[str]()
    gates = {name: asyncio.Event() for name in ("first", "second", "dear", "cheap")}

    async def call(name: str, max_tokens: int) -> None:
        async with account.hold(ask(max_tokens=max_tokens)) as hold:
            order.append(name)
            await gates[name].wait()
            hold.answered(reply(10, 10))

    tasks = [asyncio.create_task(call("first", 100)), asyncio.create_task(call("second", 100))]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(call("dear", 300)), asyncio.create_task(call("cheap", 0))]
    await asyncio.sleep(0.01)
    assert order == ["first", "second"], "a cheap call would fit, but a dear one waits before it"
    gates["first"].set()
    await asyncio.sleep(0.01)
    assert order == ["first", "second"]
    gates["second"].set()
    await asyncio.sleep(0.01)
    assert order == ["first", "second", "dear"]
    gates["dear"].set()
    gates["cheap"].set()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert micro(budget) == 80


async def test_it_is_reached_only_where_nothing_is_in_flight() -> None:
    budget = Budget(cost_usd=300e-6)
    account, go = Account(budget, DOLLAR), asyncio.Event()

    async def call() -> None:
        async with account.hold(ask()) as hold:
            await go.wait()
            hold.answered(reply(80, 70))

    first, second = asyncio.create_task(call()), asyncio.create_task(call())
    await asyncio.sleep(0.01)
    assert not second.done()
    go.set()
    await first
    words = r"\$0\.00015 is spent.*may cost \$0\.0002;.*--resume.*--max-cost"
    with pytest.raises(BudgetError, match=words) as why:
        await second
    assert why.value.exit_code == 4
    await spend(account, reply(10, 10), ask(max_tokens=20))  # A smaller one still fits.


async def test_what_earlier_attempts_spent_counts() -> None:
    budget = Budget(requests=5, cost_usd=300e-6)
    budget.begin(3, 150e-6)
    account = Account(budget, DOLLAR)
    with pytest.raises(BudgetError, match="max-cost"):
        await spend(account, reply(), ask())
    await spend(account, reply(5, 5), ask(max_tokens=50))
    await spend(account, reply(5, 5), ask(max_tokens=30))
    with pytest.raises(BudgetError, match=r"budget of 5 requests.*max-requests"):
        await spend(account, reply(), ask(max_tokens=0))


async def test_a_waiter_that_is_cancelled_gives_its_place_up() -> None:
    budget = Budget(cost_usd=300e-6)
    account, go = Account(budget, DOLLAR), asyncio.Event()

    async def call() -> None:
        async with account.hold(ask()) as hold:
            await go.wait()
            hold.answered(reply(0, 0))

    first, second, third = (asyncio.create_task(call()) for _ in range(3))
    await asyncio.sleep(0.01)
    second.cancel()
    go.set()
    await asyncio.wait_for(asyncio.gather(first, third), 5)
    assert (micro(budget), budget.sent) == (0, 2)
    # Cancelled in the same step in which its turn comes: the turn goes on to the next.
    go.clear()
    fourth, fifth, sixth = (asyncio.create_task(call()) for _ in range(3))
    await asyncio.sleep(0.01)
    go.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fifth.cancel()
    await asyncio.wait_for(asyncio.gather(fourth, fifth, sixth, return_exceptions=True), 5)
    await asyncio.wait_for(spend(account, reply(0, 0), ask()), 5)


async def test_who_waits_when_the_run_ends_is_sent_away() -> None:
    budget = Budget(cost_usd=200e-6)
    account, go = Account(budget, DOLLAR), asyncio.Event()

    async def call() -> None:
        async with account.hold(ask()) as hold:
            await go.wait()
            hold.answered(reply())

    first, second = asyncio.create_task(call()), asyncio.create_task(call())
    await asyncio.sleep(0.01)
    budget.close()
    with pytest.raises(BudgetError, match="ending"):
        await second
    go.set()
    await first
    assert micro(budget) == 30


@dataclass
class Provider:
    """Bills every answer, and what it answers after the client has gone; counts as a tokenizer might."""

    seed: int
    billed: float = 0.0
    price: Price = field(default_factory=lambda: Price(3.0, 15.0))

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    def answer(self, request: CompletionRequest, sample: int) -> Completion | Exception:
        luck = self._draw.random()
        if luck < 0.05:
            return TransientError("500")
        read = int(self._draw.uniform(0.2, 0.4) * size(request))
        written = min(request.sampling.max_tokens, int(self._draw.expovariate(1 / 60)))
        completion = Completion("x", input_tokens=read, output_tokens=written)
        self.billed += self.price.of([completion])
        return DeadlineError("too late") if luck < 0.08 else completion


@pytest.mark.parametrize("seed", range(5))
async def test_two_hundred_calls_at_once_never_pass_the_cap(seed: int) -> None:
    provider, cap = Provider(seed), 0.25
    budget = Budget(cost_usd=cap)
    model = ScriptedModel(provider.answer, latency=0.001)
    limits = Limits(concurrency=200, first_wait=0.0005, attempts=5)
    subject = EngineModel(model, limits, Account(budget, provider.price))

    async def caller(number: int) -> None:
        while True:
            await subject.complete(ask(f"{number} " + "word " * (number % 60), max_tokens=100 + number))

    results = await asyncio.gather(*(caller(number) for number in range(200)), return_exceptions=True)
    assert all(isinstance(result, BudgetError | DeadlineError | TransientError) for result in results)
    assert sum(isinstance(result, BudgetError) for result in results) > 100
    assert provider.billed <= budget.paid_usd <= cap
    dearest = max(subject.engine.account.most(request) for request in model.calls)
    assert budget.paid_usd > cap - dearest, "what is left would not have paid for the next call"


async def test_a_hold_costs_little_time() -> None:
    free, capped = Account(), Account(Budget(cost_usd=1e9), DOLLAR)
    request, answer = ask("word " * 800), reply()
    for account, limit in ((free, 15e-6), (capped, 30e-6)):
        best = 1.0
        for _ in range(5):
            start = time.process_time()
            for _ in range(2000):
                async with account.hold(request) as hold:
                    hold.answered(answer)
            best = min(best, (time.process_time() - start) / 2000)
        assert best < limit


async def test_a_cancelled_waiter_is_nobody_to_give_up_for() -> None:
    """The dear call that could never fit is gone; the cheap one behind it goes on."""
    budget = Budget(cost_usd=300e-6)
    account, go = Account(budget, DOLLAR), asyncio.Event()

    async def call(max_tokens: int) -> None:
        async with account.hold(ask(max_tokens=max_tokens)) as hold:
            await go.wait()
            hold.answered(reply(0, 0))

    first, dear, cheap = (asyncio.create_task(call(tokens)) for tokens in (100, 900, 150))
    await asyncio.sleep(0.01)
    dear.cancel()
    first.cancel()
    go.set()
    results = await asyncio.wait_for(asyncio.gather(first, dear, cheap, return_exceptions=True), 5)
    assert [type(result) for result in results] == [
        asyncio.CancelledError,
        asyncio.CancelledError,
        BudgetError,
    ]
    assert micro(budget) == 200, "a call that was cut off may have been billed"
    await spend(account, reply(0, 0), ask(max_tokens=0))

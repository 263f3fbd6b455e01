"""The engine: how many at once, who waits, what is tried again, and when to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from prefgen.budget import Account, Budget
from prefgen.completion import Capabilities, Completion, CompletionRequest, Reply, Sampling
from prefgen.engine import Engine, EngineModel, Limits
from prefgen.errors import (
    BudgetError,
    CallError,
    DeadlineError,
    ModelUnavailableError,
    RateLimitError,
    RequestRefusedError,
    ServerAwayError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.messages import user
from prefgen.models.scripted import ScriptedModel
from prefgen.pace import PerMinute

ASK = CompletionRequest(user("x"))


def engine(budget: Budget | None = None, **limits: float) -> Engine:
    chosen = {"concurrency": 4, "deadline": 5.0, "attempts": 3, "first_wait": 0.001} | limits
    return Engine("test/model", Limits(**chosen), Account(budget))  # type: ignore[arg-type]


def failing(*errors: Exception) -> tuple[Callable[[], Awaitable[str]], list[float]]:
    """A call that raises these one after the other and then answers; and when it was made."""
    left, times = list(errors), list[float]()

    async def send() -> str:
        times.append(time.monotonic())
        if left:
            raise left.pop(0)
        return "answer"

    return send, times


async def test_the_bound_is_kept_and_kept_full() -> None:
    subject = engine(concurrency=5)
    inside, seen = 0, list[int]()

    async def send(number: int) -> None:
        nonlocal inside
        inside += 1
        seen.append(inside)
        await asyncio.sleep(0.004 * (1 + number % 7))
        inside -= 1

    await asyncio.gather(*(subject.call(lambda number=number: send(number)) for number in range(60)))
    assert max(seen) == 5
    assert sum(seen[5:]) > 4 * 55  # Whenever one leaves, another enters.


async def test_places_that_are_given_back_are_used_after_a_cancellation() -> None:
    subject = engine(concurrency=1)
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.sleep(60)

    send, _ = failing()
    holder = asyncio.create_task(subject.call(hang))
    await started.wait()
    waiting = [asyncio.create_task(subject.call(send)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    holder.cancel()
    done = await asyncio.wait_for(asyncio.gather(*waiting[1:]), 2)
    assert done == ["answer"] * 4


async def test_a_rate_limit_uses_no_attempt_and_is_obeyed() -> None:
    subject = engine(attempts=1)
    send, times = failing(*[RateLimitError("429", retry_after=0.03)] * 4)
    assert await subject.call(send) == "answer"
    assert len(times) == 5
    assert all(later - earlier >= 0.029 for earlier, later in pairwise(times))
    assert (subject.rate_limited, subject.retries) == (4, 0)


async def test_a_rate_limit_slows_everybody_down() -> None:
    subject = engine(concurrency=8)
    refused, free = failing(RateLimitError("429", retry_after=0.05)), failing()
    start = time.monotonic()
    await subject.call(refused[0])
    assert subject.gate.limit < 8
    assert time.monotonic() - start >= 0.05
    subject.gate.slow_down(0.05)
    start = time.monotonic()
    await subject.call(free[0])
    assert free[1][0] - start >= 0.045


async def test_a_call_that_is_refused_alone_waits_alone() -> None:
    subject = engine(concurrency=64)
    send, _ = failing()
    for _ in range(50):
        await subject.call(send)
    refused, times = failing(RateLimitError("now and then", retry_after=0.3))
    waiting = asyncio.create_task(subject.call(refused))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    for _ in range(20):
        await subject.call(send)
    assert time.monotonic() - began < 0.2
    assert not waiting.done()
    assert await waiting == "answer"
    assert times[1] - times[0] >= 0.3


async def test_a_rate_limit_without_retry_after_waits_longer_each_time() -> None:
    subject = engine(first_wait=0.01)
    send, times = failing(*[RateLimitError("429")] * 3)
    await subject.call(send)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[0] >= 0.009
    assert waits[1] >= 0.019
    assert waits[2] >= 0.039


async def test_patience_ends() -> None:
    subject = engine(patience=0.02)
    send, times = failing(*[RateLimitError("429", retry_after=0.015)] * 100)
    with pytest.raises(RateLimitError):
        await subject.call(send)
    assert len(times) < 6


async def test_a_server_that_does_not_come_back_ends_the_run() -> None:
    subject = engine(patience=0.02)
    send, _ = failing(*[ServerAwayError("gone", retry_after=0.015)] * 100)
    with pytest.raises(ModelUnavailableError, match=r"gone.*start it again.*--resume"):
        await subject.call(send)


async def test_a_server_that_comes_back_costs_no_attempt() -> None:
    subject = engine(attempts=1)
    send, times = failing(*[ServerAwayError("gone", retry_after=0.001)] * 9)
    assert await subject.call(send) == "answer"
    assert (len(times), subject.retries) == (10, 0)


async def test_a_call_that_waits_to_be_tried_again_holds_no_place() -> None:
    subject = engine(concurrency=1, attempts=2, first_wait=0.2)
    again, times = failing(TransientError("500"))
    free, free_times = failing()
    await asyncio.gather(subject.call(again), subject.call(free))
    assert times[0] < free_times[0] < times[1]


async def test_requests_a_minute_are_kept() -> None:
    subject = engine(concurrency=100, per_minute=PerMinute(requests=600))
    send, times = failing()
    start = time.monotonic()
    await asyncio.gather(*(subject.call(send) for _ in range(60)))
    # Fifty (five seconds' worth) at once, then ten a second.
    assert 0.9 < times[-1] - start < 3
    assert sum(moment - start < 0.05 for moment in times) <= 51


async def test_tokens_a_minute_are_learnt_from_the_answers() -> None:
    """Each answer takes 100 tokens of 6,000 a minute: five at once (500), then one a second."""
    model = ScriptedModel(lambda request, sample: Completion("x", input_tokens=10, output_tokens=100))
    limits = Limits(per_minute=PerMinute(output_tokens=6_000))
    subject = EngineModel(model, limits, Account())
    ask = CompletionRequest(user("x"), Sampling(max_tokens=100))
    start = time.monotonic()
    await asyncio.gather(*(subject.complete(ask) for _ in range(6)))
    assert 0.9 < time.monotonic() - start < 3


@pytest.mark.parametrize("error", [TransientError("500"), DeadlineError("late")])
async def test_what_may_pass_is_tried_again(error: CallError) -> None:
    subject = engine(attempts=3)
    send, times = failing(error, error)
    assert await subject.call(send) == "answer"
    assert len(times) == 3
    assert subject.retries == 2


async def test_when_the_attempts_are_used_up_the_last_error_is_raised() -> None:
    subject = engine(attempts=3)
    send, times = failing(TransientError("first"), TransientError("second"), TransientError("third"))
    with pytest.raises(TransientError, match="third"):
        await subject.call(send)
    assert len(times) == 3


async def test_a_refusal_for_good_is_not_tried_again() -> None:
    send, times = failing(RequestRefusedError("400"))
    with pytest.raises(RequestRefusedError):
        await engine().call(send)
    assert len(times) == 1


async def test_an_answer_that_does_not_come_in_time() -> None:
    subject = engine(deadline=0.02, attempts=2)
    tries = 0

    async def send() -> None:
        nonlocal tries
        tries += 1
        await asyncio.sleep(10)

    with pytest.raises(DeadlineError, match=r"no answer within 0\.02 s") as caught:
        await subject.call(send)
    assert tries == 2
    assert caught.value.status == "timeout"


async def test_a_timeout_below_is_a_lost_connection_not_our_deadline() -> None:
    send, times = failing(TimeoutError("socket"), TimeoutError())
    assert await engine().call(send) == "answer"
    assert len(times) == 3


async def test_a_refused_parameter_is_learnt_once_and_left_out() -> None:
    def answer(request: CompletionRequest, sample: int) -> str | Exception:
        for name in ("temperature", "seed"):
            if not model.capabilities.lacks(name):
                return UnsupportedParameterError(name, f"{name} is not supported")
        return "fine"

    model = ScriptedModel(answer, capabilities=Capabilities())
    subject = EngineModel(model, Limits(), Account())
    for _ in range(5):
        reply: Reply = await subject.complete(ASK)
        assert reply.completions[0].text == "fine"
    assert len(model.calls) == 7
    assert set(subject.capabilities.learnt) == {"temperature", "seed"}
    assert subject.engine.retries == 0


async def test_a_model_that_refuses_for_ever_is_given_up() -> None:
    model = ScriptedModel(lambda request, sample: UnsupportedParameterError("n", "no n"))
    with pytest.raises(RequestRefusedError, match="keeps refusing n"):
        await EngineModel(model, Limits(), Account()).complete(ASK)


async def test_the_budget_is_kept_exactly() -> None:
    budget = Budget(7)
    subject = engine(budget)
    send, times = failing()
    results = await asyncio.gather(*(subject.call(send) for _ in range(10)), return_exceptions=True)
    assert len(times) == 7
    assert sum(isinstance(result, BudgetError) for result in results) == 3


async def test_retries_are_paid_from_the_budget() -> None:
    send, times = failing(*[TransientError("500")] * 9)
    with pytest.raises(BudgetError, match=r"budget of 2 requests.*--resume.*--max-requests"):
        await engine(Budget(2), attempts=9).call(send)
    assert len(times) == 2


async def test_no_budget_no_call() -> None:
    send, times = failing()
    with pytest.raises(BudgetError):
        await engine(Budget(0)).call(send)
    assert times == []


async def test_a_run_that_is_ending_sends_nothing_more() -> None:
    budget = Budget()
    budget.close()
    send, times = failing()
    with pytest.raises(BudgetError, match="ending"):
        await engine(budget).call(send)
    assert times == []

"""Models asked through batches: each question once, whatever becomes of request, batch and process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from batch_server import OK, BatchServer, Outcome, serving

from prefgen.budget import Account, Budget
from prefgen.completion import CompletionRequest, Reply, Sampling
from prefgen.engine import EngineModel, Limits
from prefgen.errors import (
    BudgetError,
    ModelUnavailableError,
    RequestRefusedError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models.anthropic import AnthropicModel
from prefgen.models.batches.anthropic import AnthropicBatches
from prefgen.models.batches.model import BatchModel
from prefgen.models.batches.openai import OpenAIBatches
from prefgen.models.batches.settings import BatchSettings
from prefgen.models.batches.store import BatchStore, custom_id, new_tag
from prefgen.models.openai import OpenAIModel
from prefgen.recorded import RecordedModel

PROVIDERS = ("openai", "anthropic")
SECRET = "sk-secret-0123456789abcdef-do-not-keep"
both = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with serving() as server:
        yield server


class Through:
    """A model through batches, and what it told."""

    def __init__(
        self, server: BatchServer, ledger: Ledger, provider: str, budget: Budget, busy: Any, **settings: Any
    ) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []
        if provider == "openai":
            adapter: Any = OpenAIModel("writer", "openai/writer", f"{server.url}/v1", SECRET)
            self.service: Any = OpenAIBatches(adapter.endpoint)
        else:
            adapter = AnthropicModel("writer", "anthropic/writer", server.url, SECRET)
            self.service = AnthropicBatches(adapter.endpoint)
        how = {"size": 1000, "poll": 0.05, "attempts": 3, "patience": 20.0} | settings
        direct = EngineModel(adapter, Limits(first_wait=0.01), Account(budget))
        self.store = BatchStore(ledger)
        self.batches = BatchModel(
            direct, adapter, self.service, self.store, Account(budget), BatchSettings(**how),
            busy=busy, tell=self.told.append, warn=self.warned.append,
        )  # fmt: skip
        self.batches.start()
        self.model = RecordedModel(self.batches, ledger, claiming=False)

    async def ask(self, *texts: str, **how: Any) -> list[Any]:
        calls = (self.model.complete(request(text, **how)) for text in texts)
        return await asyncio.gather(*calls, return_exceptions=True)


@asynccontextmanager
async def through(
    server: BatchServer, folder: Path, provider: str = "openai", budget: Budget | None = None, **how: Any
) -> AsyncIterator[Through]:
    busy = how.pop("busy", lambda: False)
    with Ledger(folder / "ledger.sqlite") as ledger:
        opened = Through(server, ledger, provider, budget or Budget(), busy, **how)
        try:
            yield opened
        finally:
            opened.batches.leave()
            await opened.model.aclose()


def request(text: str, samples: int = 1, **how: Any) -> CompletionRequest:
    return CompletionRequest(user(text), Sampling(seed=7), samples=tuple(range(samples)), **how)


def texts(count: int) -> list[str]:
    return [f"question {number}" for number in range(count)]


def replies(answers: list[Any]) -> list[Reply]:
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def about(body: dict[str, Any], *numbers: int) -> bool:
    return body["messages"][0]["content"] in [f"question {number}" for number in numbers]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


# --- all goes well -----------------------------------------------------------------------------------


@both
async def test_every_question_is_answered_and_the_first_alone_goes_directly(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    async with through(server, tmp_path, provider) as opened:
        answers = replies(await opened.ask(*texts(50)))
        again = replies(await opened.ask(*texts(50)))
    assert all(answer.completions[0].text.startswith("Consider: ") for answer in answers)
    assert answers == again
    assert server.sizes == [49]
    assert len(server.direct) == 1
    assert opened.model.usage.requests == 50
    assert opened.told[-1] == f"batch {provider}-batch-1 ({opened.model.spec}): 49 of 49 done"
    assert not opened.warned


async def test_several_draws_stay_one_request(server: BatchServer, tmp_path: Path) -> None:
    async with through(server, tmp_path) as opened:
        answers = replies(await opened.ask(*texts(5), samples=4))
    assert [len(answer.completions) for answer in answers] == [4] * 5
    assert server.sizes == [4]
    assert len({completion.text for answer in answers for completion in answer.completions}) > 10


async def test_a_question_asked_anew_is_another_one(server: BatchServer, tmp_path: Path) -> None:
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(4)))
        opened.model = opened.model.again("second")
        replies(await opened.ask(*texts(4)))
        replies(await opened.ask(*texts(4)))
    assert server.sizes == [3, 4]


async def test_results_of_nobody_and_repeated_ones_are_ignored(server: BatchServer, tmp_path: Path) -> None:
    server.strange = True
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(10)))
    assert len(opened.warned) == 1
    assert "1 unknown and 1 repeated" in opened.warned[0]


@both
async def test_a_text_with_every_kind_of_line_end_comes_back_whole(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    odd = "echo first\u2028second\u0085third\x0bfourth\r\nfifth \U0001f600"
    async with through(server, tmp_path, provider) as opened:
        answers = replies(await opened.ask("question 0", odd))
    assert answers[1].completions[0].text == odd


async def test_the_key_is_in_none_of_the_files(server: BatchServer, tmp_path: Path) -> None:
    server.outcome = lambda number, body: (400, {"error": {"message": f"Incorrect key {SECRET}"}})
    async with through(server, tmp_path) as opened:
        answers = await opened.ask(*texts(5))
        assert isinstance(answers[1], RequestRefusedError)
        assert SECRET not in str(answers[1])
        for file in tmp_path.iterdir():
            assert SECRET.encode() not in file.read_bytes()
    assert server.authorized == {SECRET}


# --- how a batch is cut ------------------------------------------------------------------------------


@both
async def test_a_batch_holds_no_more_requests_than_it_may(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    async with through(server, tmp_path, provider, size=20) as opened:
        replies(await opened.ask(*texts(51)))
    assert server.sizes == [20, 20, 10]


@both
async def test_a_batch_holds_no_more_bytes_than_it_may(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    async with through(server, tmp_path, provider) as opened:
        opened.service.most_bytes = 10_000
        replies(await opened.ask(*(f"{text} {'x' * 1500}" for text in texts(21))))
    assert sum(server.sizes) == 20
    assert max(server.sizes) <= 6
    assert min(server.sizes[:-1]) >= 4


async def test_the_limits_are_the_providers(server: BatchServer, tmp_path: Path) -> None:
    assert (OpenAIBatches.most, OpenAIBatches.most_bytes) == (50_000, 200_000_000)
    assert (AnthropicBatches.most, AnthropicBatches.most_bytes) == (100_000, 256_000_000)
    assert len(custom_id(new_tag(), b"\xff" * 32)) <= 64


async def test_a_batch_waits_while_others_may_still_ask(server: BatchServer, tmp_path: Path) -> None:
    at_work = True
    async with through(server, tmp_path, busy=lambda: at_work) as opened:
        first = asyncio.create_task(opened.ask(*texts(5)))
        await asyncio.sleep(0.4)
        assert not server.held
        second = asyncio.create_task(opened.ask("another"))
        await asyncio.sleep(0.1)
        at_work = False
        replies(await first + await second)
    assert server.sizes == [5]


# --- what becomes of a request -----------------------------------------------------------------------


@both
@pytest.mark.parametrize("why", ["expired", "cancelled"])
async def test_what_was_not_carried_out_is_asked_again_and_nothing_else(
    provider: str, why: str, server: BatchServer, tmp_path: Path
) -> None:
    server.outcome = lambda number, body: (0, why) if number == 1 and about(body, *range(20, 30)) else OK
    async with through(server, tmp_path, provider) as opened:
        replies(await opened.ask(*texts(40)))
    assert server.sizes == [39, 10]
    assert not server.asked_twice


def server_error(provider: str) -> Outcome:
    return 500, {"error": {"message": "oops"}} if provider == "openai" else {
        "type": "api_error",
        "message": "oops",
    }


def refusal(provider: str, words: str) -> Outcome:
    told = {"type": "invalid_request_error", "message": words}
    return 400, {"error": told} if provider == "openai" else told


@both
async def test_a_server_error_is_tried_again_a_refused_request_is_not(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    def outcome(number: int, body: dict[str, Any]) -> Outcome:
        if about(body, 3):
            return refusal(provider, "this prompt is not allowed")
        return server_error(provider) if number == 1 and about(body, 4) else OK

    server.outcome = outcome
    async with through(server, tmp_path, provider) as opened:
        answers = await opened.ask(*texts(10))
    assert server.sizes == [9, 1]
    assert isinstance(answers[3], RequestRefusedError)
    assert "not allowed" in str(answers[3])
    assert len(replies(answers[:3] + answers[4:])) == 9


@both
async def test_tries_are_bounded(provider: str, server: BatchServer, tmp_path: Path) -> None:
    server.outcome = lambda number, body: (0, "expired") if about(body, 2) else OK
    async with through(server, tmp_path, provider) as opened:
        answers = await opened.ask(*texts(5))
    assert server.sizes == [4, 1, 1]
    assert isinstance(answers[2], TransientError)
    assert "no answer from 3 batches" in str(answers[2])


async def test_an_unusable_answer_is_a_try(server: BatchServer, tmp_path: Path) -> None:
    server.outcome = lambda number, body: (200.0, {}) if number == 1 and about(body, 2) else OK  # type: ignore[return-value]
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(5)))
    assert sum(server.sizes) >= 4


async def test_a_parameter_that_is_refused_directly_is_in_no_batch(
    server: BatchServer, tmp_path: Path
) -> None:
    def online(body: dict[str, Any]) -> Outcome:
        error = {"message": "Unsupported parameter: 'seed'", "param": "seed", "code": "unsupported_parameter"}
        return (400, {"error": error}) if "seed" in body else OK

    server.online = online
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(10)))
    assert server.sizes == [9]
    assert all("seed" not in body for _, body in server.held[0].requests)


@both
async def test_a_parameter_that_a_batch_refuses_is_left_out_in_the_next(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    server.outcome = lambda number, body: (
        refusal(provider, "max_tokens is fine, but output_config, response_format are not supported")
        if {"output_config", "response_format"} & body.keys()
        else OK
    )
    async with through(server, tmp_path, provider) as opened:
        replies(await opened.ask(*texts(6), schema={"type": "object", "properties": {}}))
    # One of them, the first with the parameters that are left, goes directly.
    assert server.sizes == [5, 4]
    assert opened.model.capabilities.lacks("structured_output")


async def test_no_batch_is_spent_on_log_probabilities_that_do_not_come(
    server: BatchServer, tmp_path: Path
) -> None:
    """The first question tells; the others are refused before they are sent."""

    def online(body: dict[str, Any]) -> Outcome:
        error = {"message": "logprobs are not supported", "param": "logprobs"}
        return (400, {"error": error}) if "logprobs" in body else OK

    server.online = online
    async with through(server, tmp_path) as opened:
        answers = await opened.ask(*texts(10), label_words=("A", "B"))
        assert isinstance(answers[0], Reply)
        assert all(isinstance(answer, UnsupportedParameterError) for answer in answers[1:])
    assert not server.held


async def test_a_server_that_gives_one_draw_a_call_is_asked_for_each(
    server: BatchServer, tmp_path: Path
) -> None:
    def online(body: dict[str, Any]) -> Outcome:
        return (400, {"error": {"message": "'n' must be 1", "param": "n"}}) if body.get("n") else OK

    server.online = online
    async with through(server, tmp_path) as opened:
        answers = replies(await opened.ask(*texts(4), samples=3))
    assert [len(answer.completions) for answer in answers] == [3] * 4
    assert sum(server.sizes) == 8
    assert not server.asked_twice


# --- the provider ------------------------------------------------------------------------------------


@both
async def test_looks_that_fail_are_looked_again(provider: str, server: BatchServer, tmp_path: Path) -> None:
    server.failing = 4
    async with through(server, tmp_path, provider) as opened:
        replies(await opened.ask(*texts(10)))
    assert server.sizes == [9]


async def test_a_provider_that_stays_away_ends_the_wait(server: BatchServer, tmp_path: Path) -> None:
    server.failing = 10_000
    async with through(server, tmp_path, patience=0.2) as opened:
        answers = await opened.ask(*texts(3))
    assert isinstance(answers[1], ModelUnavailableError)
    assert "--resume collects it" in str(answers[1])
    server.failing = 0
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(3)))
    assert server.sizes == [2]


@both
@pytest.mark.parametrize("silently", [False, True])
async def test_results_that_are_cut_are_read_again(
    provider: str, silently: bool, server: BatchServer, tmp_path: Path
) -> None:
    server.cut, server.silently = 2, silently
    async with through(server, tmp_path, provider) as opened:
        replies(await opened.ask(*texts(30)))
    assert server.sizes == [29]


async def test_results_that_stay_cut_are_used_and_the_rest_asked_again(
    server: BatchServer, tmp_path: Path
) -> None:
    server.cut, server.silently = 4, True
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(30)))
    assert server.sizes[0] == 29
    assert 1 <= sum(server.sizes[1:]) < 29


@both
async def test_a_batch_whose_receipt_is_lost_is_found_again(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    server.lost_replies = 1
    async with through(server, tmp_path, provider) as opened:
        replies(await opened.ask(*texts(10)))
    assert server.sizes == [9]
    assert not server.asked_twice


@both
async def test_a_batch_that_did_not_arrive_is_sent_again(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    server.taking = False
    async with through(server, tmp_path, provider) as opened:
        waiting = asyncio.create_task(opened.ask(*texts(10)))
        await until(lambda: any("will be seen" in line for line in opened.told))
        server.taking = True
        replies(await waiting)
    assert server.sizes == [9]


async def test_a_full_queue_gets_smaller_batches(server: BatchServer, tmp_path: Path) -> None:
    server.queue = 12
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(40)))
    taken = [size for size in server.sizes if size <= 12]
    assert server.sizes[:2] == [39, 19]
    assert sum(taken) == 39
    assert not server.asked_twice


async def test_another_accounts_batch_of_the_same_size_is_not_taken_for_ours(
    server: BatchServer, tmp_path: Path
) -> None:
    body = {"model": "writer", "messages": [{"role": "user", "content": "theirs"}]}
    server.take("anthropic", [(f"theirs-{number}", body) for number in range(9)], {})
    server.sent.clear()
    server.lost_replies = 1
    async with through(server, tmp_path, "anthropic") as opened:
        # The other one stands nearer to the hour at which ours was sent.
        find = opened.service.find

        async def nearest(tag: str, requests: int, since: float, known: frozenset[str]) -> str | None:
            other = server.held[0].id
            return other if other not in known else await find(tag, requests, since, known)

        opened.service.find = nearest
        replies(await opened.ask(*texts(10)))
    assert server.sizes == [9, 9]
    assert any("another's" in line for line in opened.warned)
    assert not server.asked_twice


# --- leaving and coming back -------------------------------------------------------------------------


@both
async def test_who_comes_back_collects_what_was_sent(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    server.looks = 1_000_000
    async with through(server, tmp_path, provider) as opened:
        waiting = asyncio.create_task(opened.ask(*texts(20)))
        await until(lambda: bool(server.held))
    assert {type(answer) for answer in (await waiting)[1:]} == {BudgetError}
    assert any("1 batches with 19 requests go on" in line for line in opened.told)
    server.looks = 0
    async with through(server, tmp_path, provider) as opened:
        replies(await opened.ask(*texts(25)))
    assert sum(server.sizes) + len(server.direct) == 25
    assert not server.asked_twice


async def test_answers_nobody_waited_for_are_kept(server: BatchServer, tmp_path: Path) -> None:
    server.looks = 1_000_000
    async with through(server, tmp_path) as opened:
        waiting = asyncio.create_task(opened.ask(*texts(20)))
        await until(lambda: bool(server.held))
    await waiting
    server.looks = 0
    async with through(server, tmp_path) as opened:
        await until(lambda: not opened.store.open_batches(opened.model.identity))
    server.held[0].provider = "gone"
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(20)))
    assert server.sizes == [19]


async def test_two_at_once_on_one_ledger_send_each_question_once(server: BatchServer, tmp_path: Path) -> None:
    server.looks = 3
    async with through(server, tmp_path) as one, through(server, tmp_path) as other:
        answers = await asyncio.gather(one.ask(*texts(30)), other.ask(*texts(40)))
    assert [len(replies(told)) for told in answers] == [30, 40]
    assert sum(server.sizes) <= 39
    assert not server.asked_twice


async def test_a_budget_lets_out_what_it_can_pay(server: BatchServer, tmp_path: Path) -> None:
    async with through(server, tmp_path, budget=Budget(5)) as opened:
        answers = await opened.ask(*texts(20))
    assert sum(isinstance(answer, BudgetError) for answer in answers) == 15
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(20)))
    assert server.sizes[0] == 4
    assert sum(server.sizes) + len(server.direct) == 20


async def test_the_store_forgets_what_the_ledger_has(server: BatchServer, tmp_path: Path) -> None:
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(10)))
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM batch_requests").fetchone() == (0,)
        assert connection.execute("SELECT id, state, requests FROM batches").fetchall() == [
            ("openai-batch-1", "ended", 9)
        ]
    connection.close()


async def left_open(server: BatchServer, folder: Path, provider: str = "openai") -> None:
    server.looks = 1_000_000
    async with through(server, folder, provider) as opened:
        waiting = asyncio.create_task(opened.ask(*texts(6)))
        await until(lambda: bool(server.held))
    await waiting
    server.looks = 0


async def test_a_batch_of_another_account_is_not_asked_again(server: BatchServer, tmp_path: Path) -> None:
    await left_open(server, tmp_path)
    server.held.clear()
    async with through(server, tmp_path) as opened:
        answers = await opened.ask(*texts(6))
    assert isinstance(answers[1], ModelUnavailableError)
    assert "is not known" in str(answers[1])
    assert not server.held


async def test_results_that_are_kept_no_longer_are_asked_for_again(
    server: BatchServer, tmp_path: Path
) -> None:
    await left_open(server, tmp_path)
    server.held.clear()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE batches SET created = created - 31 * 24 * 3600")
    connection.close()
    async with through(server, tmp_path) as opened:
        replies(await opened.ask(*texts(6)))
    assert any("kept no longer" in line for line in opened.warned)
    assert server.sizes == [5]

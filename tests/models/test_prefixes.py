"""What is marked for a provider's prompt cache, and that the first of several calls writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from models.conftest import FakeServer

from judges.asking import Asking
from judges.constitution import Constitution, Principle
from judges.pairwise import PairwiseJudge
from prefgen.budget import Account
from prefgen.candidate import Candidate
from prefgen.completion import EVERY_DRAW, Capabilities, CompletionRequest, Shared
from prefgen.engine import EngineModel, Limits
from prefgen.errors import TransientError, UnsupportedParameterError
from prefgen.ledger import Ledger
from prefgen.messages import Message
from prefgen.models import openai as openai_adapter
from prefgen.models.anthropic import AnthropicModel, build_payload
from prefgen.models.openai import OpenAIModel
from prefgen.models.prefixes import LEAST_CHARACTERS, Prefixes
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel

RULES, CHAT = "Be kind. " * 500, "What now? " * 200
LONG, WHOLE = len(RULES), len(RULES) + len(CHAT)
MARKS = (Shared(0, LONG, EVERY_DRAW), Shared(0, WHOLE, 12))


def asked(end: str = "A or B?", marks: tuple[Shared, ...] = MARKS) -> CompletionRequest:
    return CompletionRequest((Message("user", RULES + CHAT + end),), shared=marks)


def answer(read: int, written: int) -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 1}
    usage |= {"cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    return {
        "model": "served",
        "content": [{"type": "text", "text": "A"}],
        "stop_reason": "end_turn",
        "usage": usage,
    }


@pytest.fixture
async def model(fake: FakeServer) -> AsyncIterator[AnthropicModel]:
    model = AnthropicModel("tiny", f"anthropic/tiny@{fake.url}", fake.url, "key")
    yield model
    await model.aclose()


@pytest.mark.parametrize(
    ("marks", "draws_each", "worth"),
    [
        (MARKS, 1, MARKS),
        ((Shared(0, LEAST_CHARACTERS - 1, 9),), 1, ()),
        ((Shared(0, LONG, 1),), 1, ()),
        ((Shared(0, LONG, 4),), 4, ()),
        ((Shared(0, LONG, 8),), 4, (Shared(0, LONG, 8),)),
        ((Shared(0, LONG, 9), Shared(0, LONG + 50, 9)), 1, (Shared(0, LONG, 9),)),
    ],
)
def test_a_beginning_is_marked_when_it_is_long_and_another_call_has_it(
    marks: tuple[Shared, ...], draws_each: int, worth: tuple[Shared, ...]
) -> None:
    assert Prefixes().worth(asked(marks=marks), draws_each) == worth


def test_marks_decide_no_answer() -> None:
    assert asked().identity() == asked(marks=()).identity()


def test_blocks_end_where_the_marks_are_and_hold_the_whole_text() -> None:
    system = Message("system", RULES)
    messages = (system, Message("user", CHAT + "A?"), Message("user", "B?"))
    marks = (Shared(0, len(RULES), 9), Shared(1, len(CHAT), 9))
    payload: Any = build_payload("tiny", CompletionRequest(messages), (0,), Capabilities(), marks)
    cached = {"cache_control": {"type": "ephemeral"}}
    assert payload["system"] == [{"type": "text", "text": RULES, **cached}]
    blocks = [{"type": "text", "text": CHAT, **cached}, {"type": "text", "text": "A?\n\nB?"}]
    assert payload["messages"] == [{"role": "user", "content": blocks}]


async def test_the_first_call_writes_what_the_others_read(fake: FakeServer, model: AnthropicModel) -> None:
    fake.says(answer(0, 2000))
    fake.says(answer(2000, 0))
    fake.delay = 0.05
    replies = await asyncio.gather(*(model.complete(asked(f"{n}?")) for n in range(6)))
    assert fake.before[0] == 0
    assert min(fake.before[1:]) >= 1
    assert sorted(reply.completions[0].cache_write_tokens or 0 for reply in replies) == [0] * 5 + [2000]
    assert sum(reply.completions[0].cached_tokens or 0 for reply in replies) == 5 * 2000
    texts = ["".join(block["text"] for block in call["messages"][0]["content"]) for call in fake.sent]
    assert sorted(texts) == [f"{RULES}{CHAT}{n}?" for n in range(6)]


async def test_calls_with_nothing_in_common_do_not_wait(fake: FakeServer, model: AnthropicModel) -> None:
    fake.says(answer(0, 2000))
    fake.delay = 0.2
    requests = [CompletionRequest((Message("user", f"{n} {RULES}"),)) for n in range(4)]
    requests = [replace(request, shared=(Shared(0, LONG, 9),)) for request in requests]
    await asyncio.gather(*map(model.complete, requests))
    assert fake.before == [0] * 4


async def test_a_model_that_caches_only_longer_texts_is_not_asked_again(
    fake: FakeServer, model: AnthropicModel
) -> None:
    fake.says(answer(0, 0))
    await model.complete(asked())
    await model.complete(asked())
    assert isinstance(fake.sent[0]["messages"][0]["content"], list)
    assert fake.sent[1]["messages"][0]["content"] == f"{RULES}{CHAT}A or B?"


async def test_a_server_that_refuses_the_marks_is_told_to_do_without(
    fake: FakeServer, model: AnthropicModel
) -> None:
    words = "messages.0.content.0.cache_control: Extra inputs are not permitted"
    fake.says({"type": "error", "error": {"type": "invalid_request_error", "message": words}}, 400)
    with pytest.raises(UnsupportedParameterError) as caught:
        await model.complete(asked())
    assert caught.value.capability == "prompt_cache"
    model.capabilities.learn_missing("prompt_cache", words)
    fake.says(answer(0, 0))
    fake.next()
    await model.complete(asked())
    assert "cache_control" not in str(fake.sent[-1])


async def test_a_writer_that_fails_is_followed_by_the_next() -> None:
    prefixes, request = Prefixes(), asked()
    order: list[str] = []

    async def call(name: str, fails: bool) -> None:
        async with prefixes.turn(request, MARKS):
            order.append(f"{name} in")
            await asyncio.sleep(0.02)
            order.append(f"{name} out")
            if fails:
                raise TransientError("cut")

    calls = (call("a", True), call("b", False), call("c", False), call("d", False))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], TransientError)
    assert order[:4] == ["a in", "a out", "b in", "b out"]
    assert order[4:6] == ["c in", "d in"]


async def test_a_writer_that_is_cancelled_while_it_waits_is_followed_by_the_next() -> None:
    """It was to write the shorter beginning, and waited for the longer one."""
    prefixes, request = Prefixes(), asked()
    held = asyncio.Event()

    async def hold() -> None:
        async with prefixes.turn(request, MARKS[1:]):
            await held.wait()

    async def call() -> None:
        async with prefixes.turn(request, MARKS):
            pass

    holder, waiter = asyncio.create_task(hold()), asyncio.create_task(call())
    await asyncio.sleep(0.01)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    held.set()
    await holder
    async with asyncio.timeout(5):
        await call()


async def test_nobody_waits_for_a_writer_that_hangs_longer_than_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prefgen.models.prefixes._MOST_WAIT", 0.05)
    prefixes, request = Prefixes(), asked()

    async def hang() -> None:
        async with prefixes.turn(request, MARKS):
            await asyncio.sleep(60)

    writer = asyncio.create_task(hang())
    await asyncio.sleep(0)
    async with asyncio.timeout(10), prefixes.turn(request, MARKS):
        pass
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    async with asyncio.timeout(10), prefixes.turn(request, MARKS):
        pass


class Cache:
    """Anthropic's: a beginning that is marked can be read once a call that has it was answered."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.read = self.written = self.fresh = 0

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        content = call["messages"][0]["content"]
        blocks = [{"text": content}] if isinstance(content, str) else content
        texts = ["".join(block["text"] for block in blocks[: number + 1]) for number in range(len(blocks))]
        marked = [text for text, block in zip(texts, blocks, strict=True) if "cache_control" in block]
        read = max((len(text) for text in marked if text in self.kept), default=0)
        written = max(map(len, marked), default=0) - read
        self.kept.update(marked)
        self.read, self.written = self.read + read, self.written + written
        self.fresh += len(texts[-1]) - read - written
        told = answer(read // 4, written // 4)
        return told | {"content": [{"type": "text", "text": "Verdict: A"}]}


async def test_a_run_pays_its_rules_once_and_each_request_once(
    fake: FakeServer, model: AnthropicModel, tmp_path: Path
) -> None:
    cache = Cache()
    fake.reply, fake.delay = cache.answer, 0.01
    rules = Constitution(id="x", principles=(Principle(id="kind", text=RULES),))
    prompts = [Prompt(f"p{number}", (Message("user", f"{number} {CHAT}"),)) for number in range(3)]
    with Ledger(tmp_path / "ledger") as ledger:
        recorded = RecordedModel(EngineModel(model, Limits(), Account()), ledger)
        judge = PairwiseJudge(recorded, rules, Asking("votes"))
        await asyncio.gather(
            *(
                judge.judge(prompt, [Candidate(prompt.id, text, "x", 0) for text in "abc"])
                for prompt in prompts
            )
        )
    assert len(fake.sent) == 18
    requests = sum(len(prompt.text) for prompt in prompts)
    assert 0 <= cache.written - len(RULES) - requests < 1500, "the texts around them come on top"
    assert cache.read > 10 * len(RULES)
    assert recorded.usage.cached_tokens / recorded.usage.input_tokens > 0.7


async def test_openai_is_given_a_key_for_the_beginning_on_its_own_service_only(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = {"cached_tokens": 7, "cache_write_tokens": 3}
    fake.says(
        {
            "model": "served",
            "choices": [{"message": {"content": "A"}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": details},
        }
    )
    requests = (asked("1?"), asked("2?"), asked("3?", marks=()))
    for official in (False, True):
        monkeypatch.setattr(openai_adapter, "is_official", lambda url, answer=official: answer)
        model = OpenAIModel("tiny", "openai/tiny", fake.url, "key")
        replies = [await model.complete(request) for request in requests]
        await model.aclose()
    keys = [call.get("prompt_cache_key") for call in fake.sent]
    assert keys[:3] == [None] * 3
    assert keys[3] == keys[4] is not None
    assert len(keys[3]) <= 64
    assert keys[5] is None
    told = replies[0].completions[0]
    assert (told.cached_tokens, told.cache_write_tokens) == (7, 3)

"""Anthropic's adapter: payloads, answers, and what its failures become."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from models.conftest import FakeServer

from prefgen.completion import Capabilities, CompletionRequest, Sampling
from prefgen.errors import (
    ModelUnavailableError,
    PrefgenError,
    RateLimitError,
    RequestRefusedError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.messages import Message
from prefgen.models.anthropic import AnthropicModel, build_payload, parse_response

KEY = "sk-ant-test-0123456789abcdef"
CHAT = (Message("system", "Be brief."), Message("user", "A or B?"))
FULL = Sampling(max_tokens=5, temperature=0.7, top_p=0.9, seed=10)
NONE = Capabilities(temperature=False, top_p=False, logprobs=False, n=False, seed=False)


def answer(*blocks: dict[str, Any], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 9,
        "output_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 2,
    }
    return {
        "type": "message",
        "model": "served",
        "content": list(blocks),
        "stop_reason": stop,
        "usage": usage,
        **more,
    }


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.fixture
async def model(fake: FakeServer) -> AsyncIterator[AnthropicModel]:
    model = AnthropicModel("tiny", f"anthropic/tiny@{fake.url}", fake.url, KEY)
    yield model
    await model.aclose()


def test_payload_holds_only_what_the_api_takes() -> None:
    request = CompletionRequest(CHAT, FULL, label_words=("A", "B"))
    assert build_payload("tiny", request, (0,), NONE) == {
        "model": "tiny",
        "max_tokens": 5,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "A or B?"}],
    }


def test_payload_of_a_server_that_samples() -> None:
    payload = build_payload("tiny", CompletionRequest(CHAT[1:], FULL), (0,), Capabilities())
    assert (payload["temperature"], payload["top_p"]) == (0.7, 0.9)
    assert "system" not in payload


def test_turns_of_one_role_are_merged() -> None:
    messages = (
        Message("user", "one"),
        Message("system", "s"),
        Message("user", "two"),
        Message("assistant", "three"),
    )
    payload = build_payload("tiny", CompletionRequest((*messages, Message("user", "four"))), (0,), NONE)
    assert payload["messages"] == [
        {"role": "user", "content": "one\n\ntwo"},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
    ]


def test_payload_without_a_system_role() -> None:
    payload = build_payload("tiny", CompletionRequest(CHAT), (0,), Capabilities(system_role=False))
    assert "system" not in payload
    assert payload["messages"] == [{"role": "user", "content": "Be brief.\n\nA or B?"}]


def test_structured_output() -> None:
    payload: Any = build_payload("tiny", CompletionRequest(CHAT, choices=("A", "B")), (0,), NONE)
    form = payload["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"]["properties"]["answer"]["enum"] == ["A", "B"]
    schema: Any = {"type": "object", "properties": {"score": {"type": "integer", "minimum": 1}}}
    payload = build_payload("tiny", CompletionRequest(CHAT, schema=schema), (0,), NONE)
    sent = payload["output_config"]["format"]["schema"]
    assert sent["additionalProperties"] is False
    assert "minimum" not in sent["properties"]["score"]
    lacking = Capabilities(structured_output=False)
    assert "output_config" not in build_payload("tiny", CompletionRequest(CHAT, schema=schema), (0,), lacking)


def parse(body: Any, request: CompletionRequest | None = None) -> Any:
    return parse_response(json.dumps(body).encode(), request or CompletionRequest(CHAT)).completions[0]


@pytest.mark.parametrize(
    ("body", "words", "finish"),
    [
        (answer(text("yes")), "yes", "stop"),
        (answer(text("yes"), stop="stop_sequence"), "yes", "stop"),
        (answer(text("ye"), stop="max_tokens"), "ye", "length"),
        (answer(stop="max_tokens"), "", "length"),
        (answer(text("ye"), stop="model_context_window_exceeded"), "ye", "length"),
        (answer(text("no"), stop="refusal"), "no", "refusal"),
        (answer(stop="refusal", stop_details={"type": "refusal", "explanation": "bio"}), "bio", "refusal"),
        (answer(text("x"), stop="pause_turn"), "x", "other"),
        (answer({"type": "thinking", "thinking": "hm"}, text("yes")), "yes", "stop"),
        (answer({"type": "redacted_thinking", "data": "?"}, text("y"), text("es")), "yes", "stop"),
        (answer(text("<think>hm</think>yes")), "yes", "stop"),
    ],
)
def test_text_and_finish_reason(body: Any, words: str, finish: str) -> None:
    completion = parse(body)
    assert (completion.text, completion.finish_reason) == (words, finish)


def test_choice_is_unwrapped() -> None:
    assert parse(answer(text('{"answer": "B"}')), CompletionRequest(CHAT, choices=("A", "B"))).text == "B"


def test_input_tokens_count_the_cached_ones() -> None:
    completion = parse(answer(text("yes")))
    assert (completion.input_tokens, completion.output_tokens, completion.cached_tokens) == (15, 5, 4)


@pytest.mark.parametrize("body", [{}, error("api_error", "died"), None])
def test_an_answer_that_is_none_is_worth_another_try(body: Any) -> None:
    with pytest.raises(TransientError):
        parse(body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, error("rate_limit_error", "slow"), RateLimitError, "slow"),
        (529, error("overloaded_error", "Overloaded"), RateLimitError, "Overloaded"),
        (503, error("overloaded_error", "try later"), RateLimitError, "try later"),
        (500, error("api_error", "died"), TransientError, "died"),
        (504, error("timeout_error", "late"), TransientError, "late"),
        (
            401,
            error("authentication_error", f"invalid x-api-key {KEY}"),
            ModelUnavailableError,
            "ANTHROPIC_API_KEY",
        ),
        (403, error("permission_error", "no"), ModelUnavailableError, "ANTHROPIC_API_KEY"),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low"),
            ModelUnavailableError,
            "credit",
        ),
        (404, error("not_found_error", "model: tiny"), ModelUnavailableError, "served-one"),
        (400, error("invalid_request_error", "prompt is too long"), RequestRefusedError, "too long"),
        (413, error("request_too_large", "big"), RequestRefusedError, "big"),
    ],
)
async def test_each_status_is_one_failure(
    fake: FakeServer, model: AnthropicModel, status: int, body: Any, kind: type[PrefgenError], words: str
) -> None:
    fake.says(body, status)
    with pytest.raises(kind) as caught:
        await model.complete(CompletionRequest(CHAT))
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(fake.sent) == 1, "retries belong to the engine"


async def test_refused_structured_output_is_named(fake: FakeServer, model: AnthropicModel) -> None:
    fake.says(error("invalid_request_error", "output_config.format: not supported by this model"), 400)
    with pytest.raises(UnsupportedParameterError) as caught:
        await model.complete(CompletionRequest(CHAT, choices=("A", "B")))
    assert caught.value.capability == "structured_output"


async def test_one_call_a_sample(fake: FakeServer, model: AnthropicModel) -> None:
    fake.says(answer(text("one")))
    reply = await model.complete(CompletionRequest(CHAT, FULL, (0, 1, 2)))
    assert [completion.text for completion in reply.completions] == ["one"] * 3
    assert fake.paths == ["/v1/messages"] * 3
    assert fake.headers[0]["authorization"] == f"Bearer {KEY}"
    assert reply.served == "served"


async def test_keys_and_addresses(fake: FakeServer) -> None:
    with pytest.raises(ModelUnavailableError, match="ANTHROPIC_API_KEY"):
        AnthropicModel("claude", "anthropic/claude")
    fake.says(answer(text("x")))
    model = AnthropicModel("tiny", "anthropic/tiny", f"{fake.url}/v1")
    await model.complete(CompletionRequest(CHAT, Sampling(max_tokens=100_000)))
    assert fake.paths == ["/v1/messages"]
    await model.aclose()

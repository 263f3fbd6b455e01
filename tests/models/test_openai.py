"""OpenAI's adapter: payloads, answers, and what each failure becomes."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest
from models.conftest import FakeServer

from prefgen.completion import Capabilities, CompletionRequest, Sampling
from prefgen.errors import (
    ModelUnavailableError,
    PrefgenError,
    RateLimitError,
    RequestRefusedError,
    ServerAwayError,
    TransientError,
    UnsupportedParameterError,
)
from prefgen.messages import Message, user
from prefgen.models.answers import cut_thinking
from prefgen.models.failures import Failure, read_failure, refused_capability, retry_after
from prefgen.models.openai import OpenAIModel, build_payload, parse_response

KEY = "sk-test-0123456789abcdef"
CHAT = (Message("system", "Be brief."), Message("user", "A or B?"))
FULL = Sampling(max_tokens=5, temperature=0.7, top_p=0.9, seed=10)


def choice(text: str | None, index: int = 0, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "index": index,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }


def answer(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    return {"model": "served", "choices": list(choices), "usage": usage, **more}


def tokens(*entries: tuple[str, dict[str, float]]) -> dict[str, Any]:
    """Log-prob content: each token's text, and the top list at its place."""
    return {
        "content": [
            {
                "token": token,
                "logprob": top.get(token, -1.0),
                "top_logprobs": [{"token": word, "logprob": value} for word, value in top.items()],
            }
            for token, top in entries
        ]
    }


@pytest.fixture
async def model(fake: FakeServer) -> AsyncIterator[OpenAIModel]:
    model = OpenAIModel("tiny", f"openai/tiny@{fake.url}/v1", f"{fake.url}/v1", KEY)
    yield model
    await model.aclose()


# --- payload -----------------------------------------------------------------------------------------


def test_payload_holds_what_was_asked() -> None:
    request = CompletionRequest(CHAT, FULL, label_words=("A", "B"))
    assert build_payload("tiny", request, (2, 3), Capabilities()) == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A or B?"}],
        "max_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 12,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 20,
    }


def test_payload_leaves_defaults_to_the_model() -> None:
    payload = build_payload("tiny", CompletionRequest(user("hi")), (0,), Capabilities())
    assert set(payload) == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize(
    ("capability", "gone"),
    [
        ("temperature", {"temperature"}),
        ("top_p", {"top_p"}),
        ("seed", {"seed"}),
        ("n", {"n"}),
        ("logprobs", {"logprobs", "top_logprobs"}),
        ("structured_output", {"structured_outputs"}),
    ],
)
def test_payload_leaves_out_what_is_lacking(capability: str, gone: set[str]) -> None:
    request = CompletionRequest(CHAT, FULL, label_words=("A",), choices=("A", "B"))
    known = Capabilities()
    whole = build_payload("tiny", request, (0, 1), known)
    known.learn_missing(capability, "no")
    assert whole.keys() - build_payload("tiny", request, (0, 1), known).keys() == gone


def test_payload_without_a_system_role() -> None:
    payload = build_payload("tiny", CompletionRequest(CHAT), (0,), Capabilities(system_role=False))
    assert payload["messages"] == [{"role": "user", "content": "Be brief.\n\nA or B?"}]


def test_choices_are_an_extension_elsewhere_and_an_enum_at_openai() -> None:
    request = CompletionRequest(CHAT, choices=("A", "B"))
    elsewhere = build_payload("tiny", request, (0,), Capabilities())
    assert elsewhere["structured_outputs"] == {"choice": ["A", "B"]}
    payload: Any = build_payload("gpt", request, (0,), Capabilities(), official=True)
    form = payload["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["properties"]["answer"]["enum"] == ["A", "B"]


def test_schema_is_strict() -> None:
    request = CompletionRequest(CHAT, schema={"type": "object"})
    payload: Any = build_payload("tiny", request, (0,), Capabilities())
    assert payload["response_format"]["json_schema"] == {
        "name": "answer",
        "strict": True,
        "schema": {"type": "object"},
    }


# --- answers -----------------------------------------------------------------------------------------


def parse(body: Any, request: CompletionRequest | None = None) -> Any:
    return parse_response(json.dumps(body).encode(), request or CompletionRequest(CHAT))


def test_answers_come_in_order_and_tokens_are_counted_once() -> None:
    reply = parse(answer(choice("two", 1), choice("one", 0), choice("three", 2)))
    assert [completion.text for completion in reply.completions] == ["one", "two", "three"]
    assert [completion.input_tokens for completion in reply.completions] == [9, 0, 0]
    assert [completion.output_tokens for completion in reply.completions] == [2, 2, 1]
    assert reply.completions[0].cached_tokens == 4
    assert reply.served == "served"


def test_usage_may_be_missing() -> None:
    reply = parse(answer(choice("one"), choice("two", 1), usage=None))
    assert [(one.input_tokens, one.output_tokens) for one in reply.completions] == [(None, None)] * 2


@pytest.mark.parametrize(
    ("given", "text", "finish"),
    [
        (choice("yes"), "yes", "stop"),
        (choice("ye", finish="length"), "ye", "length"),
        (choice("", finish="length"), "", "length"),
        (choice(None, finish="tool_calls"), "", "other"),
        (choice("half", finish="content_filter"), "half", "refusal"),
        (choice(None, refusal="I cannot."), "I cannot.", "refusal"),
        (choice("yes", reasoning="hm", reasoning_content="hm"), "yes", "stop"),
        (choice("<think>\nhm\n</think>\n\nyes"), "yes", "stop"),
        (choice("<think>hm", finish="length"), "", "length"),
    ],
)
def test_text_and_finish_reason(given: dict[str, Any], text: str, finish: str) -> None:
    completion = parse(answer(given)).completions[0]
    assert (completion.text, completion.finish_reason) == (text, finish)


@pytest.mark.parametrize(
    ("text", "answer_alone"),
    [
        ("plain ", "plain "),
        ("<think>a</think> b", "b"),
        (" <think>a", ""),
        ("opened in the prompt</think>b", "b"),
        ("say <think> and </think> like this", "say <think> and </think> like this"),
        ("<think>a</think>b</think>c", "b</think>c"),
    ],
)
def test_thinking_is_cut(text: str, answer_alone: str) -> None:
    assert cut_thinking(text) == answer_alone


def test_choice_is_unwrapped() -> None:
    request = CompletionRequest(CHAT, choices=("A", "B"))
    assert parse(answer(choice('{"answer": "B"}')), request).completions[0].text == "B"
    assert parse(answer(choice("B")), request).completions[0].text == "B"
    cut = parse(answer(choice('{"answer": "B', finish="length")), request).completions[0]
    assert (cut.text, cut.finish_reason) == ('{"answer": "B', "length")


@pytest.mark.parametrize(("text", "finish"), [("B", "stop"), ("t", "length"), ("A", "length")])
def test_a_whole_choice_at_the_token_limit_is_not_cut(text: str, finish: str) -> None:
    request = CompletionRequest(CHAT, choices=("A", "AB", "B", "tie"))
    assert parse(answer(choice(text, finish="length")), request).completions[0].finish_reason == finish


TOP = {
    "A": math.log(0.5),
    " A": math.log(0.1),
    "(A": math.log(0.05),
    "a": -1.0,
    "AB": -1.0,
    "B": math.log(0.2),
}


@pytest.mark.parametrize(
    ("given", "content"),
    [
        pytest.param(choice("A"), [("A", TOP)], id="plain"),
        pytest.param(choice(" A."), [(" ", {}), ("A", TOP), (".", {"B": -0.1})], id="space first"),
        pytest.param(choice('("A")'), [("(", {}), ('"', {}), ("A", TOP), ('")', {})], id="quoted"),
        pytest.param(
            choice("<think>B</think>A"),
            [("<think>", {}), ("B", {"A": 0}), ("</think>", {}), ("A", TOP)],
            id="inline",
        ),
        pytest.param(choice("A", reasoning="B"), [("B", {"B": 0}), ("</t>", {}), ("A", TOP)], id="reasoning"),
        pytest.param(
            choice('{"answer":"A"}'), [('{"answer', {}), ('":"', {}), ("A", TOP), ('"}', {})], id="wrapped"
        ),
    ],
)
def test_label_log_probabilities_sum_variants(given: dict[str, Any], content: Any) -> None:
    request = CompletionRequest(CHAT, label_words=("A", "B", "tie"), choices=("A", "B"))
    found = parse(answer(given | {"logprobs": tokens(*content)}), request).completions[0].label_logprobs
    assert found == pytest.approx({"A": math.log(0.65), "B": math.log(0.2)})


def test_label_log_probabilities_that_are_not_there() -> None:
    request = CompletionRequest(CHAT, label_words=("A", "B"))
    assert parse(answer(choice("A")), request).completions[0].label_logprobs is None
    never = choice("A") | {"logprobs": tokens(("A", {"A": 0.0, "B": -9999.0}))}
    assert parse(answer(never), request).completions[0].label_logprobs == {"A": 0.0}
    thinking = choice("<think>A", finish="length") | {"logprobs": tokens(("<think>", {}), ("A", TOP))}
    assert parse(answer(thinking), request).completions[0].label_logprobs == {}
    # Far below what exp() can hold.
    rare = choice("x") | {"logprobs": tokens(("x", {"A": -900.0, " A": -900.0}))}
    found = parse(answer(rare), request).completions[0].label_logprobs
    assert found == pytest.approx({"A": -900 + math.log(2)})


@pytest.mark.parametrize(
    "body", [{"error": {"message": "upstream died"}}, {"choices": []}, {"choices": [{}]}, [], None, "text"]
)
def test_an_answer_that_is_none_is_worth_another_try(body: Any) -> None:
    with pytest.raises(TransientError, match="unusable answer"):
        parse(body)


# --- failures ----------------------------------------------------------------------------------------


def refusal(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, refusal("slow down", code="rate_limit_exceeded"), RateLimitError, "slow down"),
        (429, refusal("no quota", code="insufficient_quota"), ModelUnavailableError, "OPENAI_API_KEY"),
        (529, refusal("busy"), RateLimitError, "busy"),
        (503, refusal("The engine is currently overloaded"), RateLimitError, "overloaded"),
        (503, refusal("restarting"), TransientError, "restarting"),
        (500, "<html>oops</html>", TransientError, "oops"),
        (502, "", TransientError, "502"),
        (408, refusal("late"), TransientError, "late"),
        (409, refusal("locked"), TransientError, "locked"),
        (401, refusal(f"Incorrect API key: {KEY}"), ModelUnavailableError, "OPENAI_API_KEY"),
        (403, refusal("not yours"), ModelUnavailableError, "OPENAI_API_KEY"),
        (402, refusal("pay first"), ModelUnavailableError, "pay first"),
        (404, refusal("The model `tiny` does not exist"), ModelUnavailableError, "served-one, served-two"),
        (404, {"detail": "Not Found"}, ModelUnavailableError, "base URL"),
        (405, {"detail": "Method Not Allowed"}, ModelUnavailableError, "chat/completions"),
        (400, refusal("maximum context length is 512 tokens"), RequestRefusedError, "512"),
        (400, refusal("flagged", code="content_policy_violation"), RequestRefusedError, "flagged"),
        (413, "too big", RequestRefusedError, "too big"),
        (200, "not json", TransientError, "not json"),
        (200, {"error": {"message": f"died with {KEY}"}}, TransientError, "died"),
    ],
)
async def test_each_status_is_one_failure(
    fake: FakeServer, model: OpenAIModel, status: int, body: Any, kind: type[PrefgenError], words: str
) -> None:
    fake.says(body, status)
    with pytest.raises(PrefgenError) as caught:
        await model.complete(CompletionRequest(CHAT))
    assert type(caught.value) is kind or (kind is ModelUnavailableError and isinstance(caught.value, kind))
    assert words in str(caught.value)
    assert KEY not in str(caught.value) + repr(caught.value)
    assert caught.value.__cause__ is None
    assert len(fake.sent) == 1, "retries belong to the engine"


@pytest.mark.parametrize(
    ("capability", "body"),
    [
        ("temperature", refusal("Unsupported value: 'temperature'", "temperature", "unsupported_value")),
        ("temperature", refusal("temperature is not supported with this model")),
        ("top_p", refusal("`temperature` and `top_p` cannot both be specified for this model")),
        ("top_p", refusal("Unsupported parameter", "top_p", "unsupported_parameter")),
        ("seed", refusal("Unrecognized request argument supplied: seed")),
        ("seed", {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}),
        ("logprobs", refusal("You are not allowed to request logprobs from this model")),
        ("logprobs", refusal("greater than max allowed: 5", "top_logprobs")),
        ("n", refusal("Only n = 1 is supported")),
        ("n", refusal("bad value", "n")),
        ("structured_output", refusal("This model does not support response_format")),
        ("structured_output", refusal("unknown field structured_outputs.choice")),
        (
            "system_role",
            refusal("'messages[0].role' does not support 'system' with this model.", "messages[0].role"),
        ),
        ("system_role", refusal("System role not supported")),
        ("system_role", refusal("Conversation roles must alternate user/assistant/user/assistant/...")),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_parameter_is_named(capability: str, body: Any, status: int) -> None:
    request = CompletionRequest(CHAT, FULL, label_words=("A",), choices=("A",))
    payload = build_payload("tiny", request, (0, 1), Capabilities()) | {"response_format": {}}
    assert refused_capability(read_failure(json.dumps(body)), payload) == capability


@pytest.mark.parametrize(
    "body",
    [
        refusal("Invalid 'temperature': must be at most 2", "temperature", "decimal_above_max_value"),
        refusal("max_tokens is too large", "max_tokens"),
        refusal("the banana is not supported"),
    ],
)
def test_a_wrong_value_is_not_left_out(body: Any) -> None:
    payload = build_payload("tiny", CompletionRequest(CHAT, FULL), (0, 1), Capabilities())
    assert refused_capability(read_failure(json.dumps(body)), payload) is None


def test_what_was_not_sent_cannot_be_left_out() -> None:
    assert refused_capability(Failure("unsupported", param="seed"), {"messages": []}) is None


async def test_a_refused_parameter_reaches_the_engine(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(refusal("Unsupported parameter: 'seed'", "seed", "unsupported_parameter"), 400)
    with pytest.raises(UnsupportedParameterError) as caught:
        await model.complete(CompletionRequest(CHAT, FULL))
    assert caught.value.capability == "seed"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.0),
        # By the server's clock, whatever ours says.
        ({"retry-after": "Mon, 01 Jan 2001 00:00:09 GMT", "date": "Mon, 01 Jan 2001 00:00:00 GMT"}, 9.0),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:09 GMT", "date": "Fri, 01 Jan 2100 00:00:00 GMT"}, 9.0),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:09 GMT", "date": "today"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


async def test_retry_after_as_a_date(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(refusal("wait"), 429, {"Retry-After": formatdate(time.time() + 30, usegmt=True)})
    with pytest.raises(RateLimitError) as caught:
        await model.complete(CompletionRequest(CHAT))
    assert caught.value.retry_after == pytest.approx(30, abs=3)


async def test_a_cut_body_is_worth_another_try(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(answer(choice("yes")), cut=True)
    with pytest.raises(TransientError):
        await model.complete(CompletionRequest(CHAT))


async def test_no_server_at_all_and_one_that_went_away(fake: FakeServer, model: OpenAIModel) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    gone = OpenAIModel("tiny", "openai/tiny", url)
    with pytest.raises(ModelUnavailableError, match=url):
        await gone.complete(CompletionRequest(CHAT))
    gone.endpoint.answered = True
    with pytest.raises(ServerAwayError):
        await gone.complete(CompletionRequest(CHAT))
    await gone.aclose()


async def test_a_tls_failure_is_named(fake: FakeServer) -> None:
    model = OpenAIModel("tiny", "openai/tiny", fake.url.replace("http:", "https:"))
    with pytest.raises(ModelUnavailableError, match="certificate"):
        await model.complete(CompletionRequest(CHAT))
    await model.aclose()


# --- sending -----------------------------------------------------------------------------------------


async def test_one_call_for_a_run_of_samples(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(answer(choice("x"), choice("y", 1)))
    reply = await model.complete(CompletionRequest(CHAT, FULL, (4, 5)))
    assert [completion.text for completion in reply.completions] == ["x", "y"]
    assert [(sent["n"], sent["seed"]) for sent in fake.sent] == [(2, 14)]
    assert fake.paths == ["/v1/chat/completions"]
    assert fake.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(("samples", "lacking"), [((0, 2), False), ((0, 1), True)])
async def test_one_call_a_sample(
    fake: FakeServer, model: OpenAIModel, samples: tuple[int, ...], lacking: bool
) -> None:
    fake.says(answer(choice("x")))
    if lacking:
        model.capabilities.learn_missing("n", "no")
    reply = await model.complete(CompletionRequest(CHAT, FULL, samples))
    assert len(reply.completions) == 2
    assert sorted(sent["seed"] for sent in fake.sent) == [10 + sample for sample in samples]
    assert all("n" not in sent for sent in fake.sent)


async def test_one_failure_of_several_calls_is_the_reply(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(refusal("wait"), 429)
    with pytest.raises(RateLimitError):
        await model.complete(CompletionRequest(CHAT, FULL, (0, 2)))


async def test_a_server_that_ignores_n_is_found_out(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(answer(choice("x")))
    with pytest.raises(UnsupportedParameterError, match="asked for 3 draws, got 1") as caught:
        await model.complete(CompletionRequest(CHAT, samples=(0, 1, 2)))
    assert caught.value.capability == "n"


async def test_log_probabilities_that_do_not_come_are_learnt(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(answer(choice("A")))
    reply = await model.complete(CompletionRequest(CHAT, label_words=("A", "B")))
    assert reply.completions[0].label_logprobs is None
    assert model.capabilities.lacks("logprobs")
    assert "logprobs" in model.capabilities.learnt


async def test_the_token_limit_goes_by_two_names(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(
        refusal("'max_tokens' is not supported; use 'max_completion_tokens' instead", "max_tokens"), 400
    )
    fake.says(answer(choice("x")))
    for _ in range(2):
        await model.complete(CompletionRequest(CHAT, FULL))
    limits = [key for sent in fake.sent for key in sent if key.startswith("max_")]
    assert limits == ["max_tokens", "max_completion_tokens", "max_completion_tokens"]


async def test_many_calls_at_once(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says(answer(choice("x")))
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(model.complete(CompletionRequest(CHAT))) for _ in range(200)]
    assert all(call.result().served == "served" for call in calls)


async def test_a_redirect_is_told_and_not_followed(fake: FakeServer, model: OpenAIModel) -> None:
    fake.says("", 307, {"location": "https://elsewhere.invalid/v1"})
    with pytest.raises(ModelUnavailableError, match=r"redirects to https://elsewhere\.invalid/v1"):
        await model.complete(CompletionRequest(CHAT))
    assert len(fake.paths) == 1


async def test_a_proxy_is_left_to_the_sdk(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.says(answer(choice("x")))
    monkeypatch.setenv("HTTP_PROXY", fake.url)
    behind = OpenAIModel("tiny", "openai/tiny", "http://far.invalid/v1")
    assert (await behind.complete(CompletionRequest(CHAT))).completions[0].text == "x"
    assert fake.paths[-1] == "http://far.invalid/v1/chat/completions"
    await behind.aclose()


# --- keys and addresses ------------------------------------------------------------------------------


def test_no_key_and_no_server() -> None:
    with pytest.raises(ModelUnavailableError, match="OPENAI_API_KEY"):
        OpenAIModel("gpt", "openai/gpt")


async def test_a_server_of_your_own_needs_no_key(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.says(answer(choice("x")))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{fake.url}/v1")
    model = OpenAIModel("tiny", "openai/tiny")
    await model.complete(CompletionRequest(CHAT))
    assert model.identity == f"openai/tiny@{fake.url}/v1"
    await model.aclose()


async def test_openai_itself_gets_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = OpenAIModel("gpt", "openai/gpt")
    assert (model._official, model._limit, model.identity) == (True, "max_completion_tokens", "openai/gpt")
    assert KEY not in repr(model) + repr(model.endpoint) + repr(model.__dict__)
    await model.aclose()

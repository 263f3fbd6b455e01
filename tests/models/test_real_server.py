"""The network adapters against real vLLM servers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from models.servers import save_chat_model, save_reward_model, vllm_server

from prefgen.completion import CompletionRequest, Reply, Sampling
from prefgen.errors import ModelUnavailableError, RequestRefusedError
from prefgen.messages import Message, user
from prefgen.models.anthropic import AnthropicModel
from prefgen.models.openai import OpenAIModel
from prefgen.models.openai_reward import OpenAIRewardModel

# The first test of a server waits for it to start.
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

CHAT = (Message("system", "Be brief."), Message("user", "Which reply is better, A or B ?"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("chat")
    with vllm_server(save_chat_model(folder / "model"), "tiny", folder / "log") as url:
        yield url


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reward_model(tmp_path_factory.mktemp("reward") / "model")


@pytest.fixture(scope="session")
def reward_server(reward_folder: Path) -> Iterator[str]:
    options = ("--runner", "pooling", "--dtype", "float32")
    with vllm_server(reward_folder, "tiny-reward", reward_folder.parent / "log", *options) as url:
        yield url


async def ask(server: str, request: CompletionRequest, name: str = "tiny") -> Reply:
    model = OpenAIModel(name, f"openai/{name}@{server}/v1", f"{server}/v1")
    try:
        return await model.complete(request)
    finally:
        await model.aclose()


async def ask_anthropic(server: str, request: CompletionRequest, name: str = "tiny") -> Reply:
    model = AnthropicModel(name, f"anthropic/{name}@{server}", server)
    try:
        return await model.complete(request)
    finally:
        await model.aclose()


async def test_three_draws_differ_and_repeat_by_index(server: str) -> None:
    sampling = Sampling(max_tokens=12, temperature=1.0, seed=7)
    together = await ask(server, CompletionRequest(CHAT, sampling, (0, 1, 2)))
    texts = [completion.text for completion in together.completions]
    assert len(set(texts)) == 3
    assert together.served == "tiny"
    assert together.completions[0].input_tokens
    assert [completion.input_tokens for completion in together.completions[1:]] == [0, 0]
    assert sum(completion.output_tokens or 0 for completion in together.completions) <= 36
    alone = await ask(server, CompletionRequest(CHAT, sampling, (2,)))
    assert alone.completions[0].text == texts[2]
    apart = await ask(server, CompletionRequest(CHAT, sampling, (2, 0)))
    assert [completion.text for completion in apart.completions] == [texts[2], texts[0]]


async def test_label_log_probabilities(server: str) -> None:
    sampling = Sampling(max_tokens=1, temperature=0.0)
    free = await ask(server, CompletionRequest(CHAT, sampling, label_words=("A", "B")))
    found = free.completions[0].label_logprobs
    assert found is not None
    assert sum(math.exp(value) for value in found.values()) <= 1 + 1e-6
    bound = await ask(server, CompletionRequest(CHAT, sampling, label_words=("A", "B"), choices=("A", "B")))
    found = bound.completions[0].label_logprobs
    assert found is not None
    assert set(found) == {"A", "B"}
    assert sum(math.exp(value) for value in found.values()) <= 1 + 1e-6
    assert bound.completions[0].text == max(found, key=lambda word: found[word])
    assert bound.completions[0].finish_reason == "stop"


async def test_choices_and_schema_bind_the_answer(server: str) -> None:
    sampling = Sampling(max_tokens=30, temperature=1.0, seed=1)
    chosen = await ask(server, CompletionRequest(CHAT, sampling, (0, 1, 2), choices=("A", "B", "tie")))
    assert {completion.text for completion in chosen.completions} <= {"A", "B", "tie"}
    assert {completion.finish_reason for completion in chosen.completions} == {"stop"}
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["A", "B"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    written = await ask(server, CompletionRequest(CHAT, Sampling(max_tokens=64, seed=1), schema=schema))
    assert written.completions[0].text.lstrip().startswith("{")


async def test_cut_at_the_token_limit(server: str) -> None:
    request = CompletionRequest(CHAT, Sampling(max_tokens=3, temperature=1.0, seed=3))
    for reply in (await ask(server, request), await ask_anthropic(server, request)):
        assert reply.completions[0].finish_reason == "length"
        assert reply.completions[0].output_tokens == 3


async def test_an_unknown_model_is_named_with_those_served(server: str) -> None:
    for send in (ask, ask_anthropic):
        with pytest.raises(ModelUnavailableError, match=r"(?s)nobody.*serves tiny"):
            await send(server, CompletionRequest(CHAT), "nobody")


async def test_a_prompt_over_the_context_is_refused(server: str) -> None:
    with pytest.raises(RequestRefusedError, match="context"):
        await ask(server, CompletionRequest(user("A B " * 1000), Sampling(max_tokens=4)))


async def test_anthropic_messages(server: str) -> None:
    reply = await ask_anthropic(server, CompletionRequest(CHAT, Sampling(max_tokens=8), (0, 1)))
    assert reply.served == "tiny"
    assert len(reply.completions) == 2
    lone = await ask_anthropic(server, CompletionRequest(CHAT[1:], Sampling(max_tokens=8)))
    with_system, without = reply.completions[0].input_tokens, lone.completions[0].input_tokens
    assert with_system is not None
    assert without is not None
    assert with_system > without
    assert reply.completions[0].output_tokens


async def test_anthropic_choices(server: str) -> None:
    request = CompletionRequest(CHAT, Sampling(max_tokens=64), choices=("A", "B"))
    completion = (await ask_anthropic(server, request)).completions[0]
    assert completion.text in ("A", "B") or completion.finish_reason == "length"


async def test_rewards_are_the_raw_logits(reward_server: str, reward_folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reward_folder)
    reference = AutoModelForSequenceClassification.from_pretrained(reward_folder, dtype=torch.float32)
    model = OpenAIRewardModel("tiny-reward", "openai/tiny-reward", f"{reward_server}/v1")
    scores = []
    for response in ("The reply is late , sorry .", "I want my money back", "A"):
        conversation = [*({"role": m.role, "content": m.content} for m in CHAT)]
        conversation.append({"role": "assistant", "content": response})
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
        tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            expected = reference(input_ids=tokens["input_ids"]).logits.item()
        scores.append(await model.score(CHAT, response))
        assert scores[-1] == pytest.approx(expected, abs=1e-2)
    assert any(not 0 <= score <= 1 for score in scores)
    await model.aclose()


async def test_a_chat_server_is_no_reward_model(server: str) -> None:
    model = OpenAIRewardModel("tiny", "openai/tiny", f"{server}/v1")
    with pytest.raises(ModelUnavailableError, match="/score"):
        await model.score(CHAT, "A")
    await model.aclose()

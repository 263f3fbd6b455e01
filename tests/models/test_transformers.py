"""The transformers adapter, and what it shares with vLLM's."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tiny_models import NO_SYSTEM_TEMPLATE, make_causal_lm, save_adapter

from prefgen.completion import CompletionRequest, Sampling
from prefgen.errors import (
    ModelUnavailableError,
    RequestRefusedError,
    UnsupportedParameterError,
    UsageError,
)
from prefgen.messages import Message, user
from prefgen.models.answers import cut_thinking
from prefgen.models.batching import Batcher
from prefgen.models.local import find_folder, pick, sum_logprobs, weights_identity
from prefgen.models.transformers import TransformersModel, open_transformers

QUESTION = user("Which response is better, A or B?")
SCHEMA = {"type": "object", "properties": {"ok": {"enum": [0, 1]}}, "required": ["ok"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_causal_lm(tmp_path_factory.mktemp("lm"))


@pytest_asyncio.fixture
async def model(folder: Path) -> AsyncIterator[TransformersModel]:
    model = await open_transformers(str(folder), f"transformers/{folder}")
    yield model
    await model.aclose()


async def test_samples_together_are_the_samples_alone(model: TransformersModel) -> None:
    sampling = Sampling(max_tokens=12, temperature=1.0, seed=7)
    together = await model.complete(CompletionRequest(QUESTION, sampling, samples=(0, 1, 2)))
    alone = [await model.complete(CompletionRequest(QUESTION, sampling, samples=(i,))) for i in (0, 1, 2)]
    assert [c.text for c in together.completions] == [reply.completions[0].text for reply in alone]
    assert len({c.text for c in together.completions}) == 3
    assert [c.input_tokens for c in together.completions][1:] == [0, 0]


async def test_a_batch_with_padding_changes_no_sample(model: TransformersModel) -> None:
    sampling = Sampling(max_tokens=8, temperature=0.0)
    requests = [CompletionRequest(user("Please answer. " * n), sampling) for n in (1, 5, 9)]
    together = await asyncio.gather(*(model.complete(request) for request in requests))
    alone = [await model.complete(request) for request in requests]
    assert [reply.completions[0].text for reply in together] == [r.completions[0].text for r in alone]


async def test_greedy_text_is_that_of_generate(model: TransformersModel) -> None:
    ids, _ = model._chat.prompt(QUESTION)
    import torch

    output = model._loaded.model.generate(torch.tensor([ids]), max_new_tokens=10, do_sample=False)
    expected = model._loaded.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
    reply = await model.complete(CompletionRequest(QUESTION, Sampling(max_tokens=10, temperature=0.0)))
    assert reply.completions[0].text == expected
    assert reply.completions[0].finish_reason == "length"


async def test_label_logprobs_are_the_log_softmax(model: TransformersModel) -> None:
    import torch

    ids, _ = model._chat.prompt(QUESTION)
    with torch.inference_mode():
        logprobs = model._loaded.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    tokens = model._chat.label_ids(("A",))["A"]
    request = CompletionRequest(QUESTION, Sampling(max_tokens=1), label_words=("A", "Zebra"))
    found = (await model.complete(request)).completions[0].label_logprobs
    assert found is not None
    assert found["A"] == pytest.approx(float(logprobs[tokens].logsumexp(0)), abs=1e-4)
    assert "Zebra" not in found
    assert len(tokens) == 2, "'A' and ' A' are both the label A"


@pytest.mark.parametrize("choices", [("A", "B"), ("refund today", "refund never", "no")])
async def test_an_answer_is_one_of_the_choices(model: TransformersModel, choices: tuple[str, ...]) -> None:
    sampling = Sampling(max_tokens=20, temperature=1.0, seed=1)
    reply = await model.complete(CompletionRequest(QUESTION, sampling, tuple(range(12)), choices=choices))
    assert {c.text for c in reply.completions} <= set(choices)
    assert {c.finish_reason for c in reply.completions} == {"stop"}


async def test_a_schema_is_refused_once_and_then_left_out(model: TransformersModel) -> None:
    request = CompletionRequest(QUESTION, Sampling(max_tokens=2), schema=SCHEMA)
    with pytest.raises(UnsupportedParameterError) as caught:
        await model.complete(request)
    model.capabilities.learn_missing(caught.value.capability, str(caught.value))
    assert (await model.complete(request)).completions[0].output_tokens == 2


async def test_a_prompt_too_long_is_refused(model: TransformersModel) -> None:
    with pytest.raises(RequestRefusedError, match="the model takes 511"):
        await model.complete(CompletionRequest(user("A B " * 400)))


async def test_a_system_message_the_template_refuses_is_folded(tmp_path: Path) -> None:
    make_causal_lm(tmp_path, chat_template=NO_SYSTEM_TEMPLATE)
    model = await open_transformers(str(tmp_path), "transformers/x")
    request = CompletionRequest((Message("system", "Be kind."), *QUESTION), Sampling(max_tokens=1))
    reply = await model.complete(request)
    folded = CompletionRequest(user("Be kind.\n\n" + QUESTION[0].content), Sampling(max_tokens=1))
    assert reply.completions[0].input_tokens == (await model.complete(folded)).completions[0].input_tokens
    assert "System role not supported" in model.capabilities.learnt["system_role"]
    await model.aclose()


async def test_without_a_chat_template_the_error_says_so(tmp_path: Path) -> None:
    make_causal_lm(tmp_path, chat_template=None)
    model = await open_transformers(str(tmp_path), "transformers/x")
    with pytest.raises(UsageError, match="no chat template"):
        await model.complete(CompletionRequest(QUESTION))
    await model.aclose()


async def test_an_adapter_is_loaded_over_its_base(folder: Path, tmp_path: Path) -> None:
    save_adapter(folder, tmp_path / "adapter")
    request = CompletionRequest(QUESTION, Sampling(max_tokens=1), label_words=("A", "B"))
    found = []
    for path in (folder, tmp_path / "adapter"):
        model = await open_transformers(str(path), "transformers/x")
        found.append((model.identity, (await model.complete(request)).completions[0].label_logprobs))
        await model.aclose()
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


async def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="there is no folder"):
        await open_transformers(str(tmp_path / "gone"), "transformers/gone")
    with pytest.raises(ModelUnavailableError, match=r"no config\.json"):
        await open_transformers(str(tmp_path), "transformers/empty")


async def test_an_unknown_option_names_the_nearest(folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'batch_size'"):
        await open_transformers(str(folder), "transformers/x", {"batchsize": 4})


def test_a_bare_hub_id_is_no_path() -> None:
    assert find_folder("someone/some-model", "vllm/someone/some-model") is None


def test_identity_follows_the_weights_not_the_path(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    assert weights_identity("a", folder) == weights_identity("b", copied)
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert weights_identity("a", folder) != weights_identity("a", copied)


def test_identity_of_a_large_file_is_its_size_and_time(tmp_path: Path) -> None:
    large = tmp_path / "model.safetensors"
    with large.open("wb") as file:
        file.truncate(65 * 2**20)
    before = weights_identity("a", tmp_path)
    os.utime(large, (1, 1))
    assert weights_identity("a", tmp_path) != before


def test_thinking_is_cut() -> None:
    assert cut_thinking("<think>hm</think>\n\nYes") == "Yes"
    assert cut_thinking("<think>never ends") == ""
    assert cut_thinking("hm</think>Yes", opened=True) == "Yes"
    assert cut_thinking("I <think> so") == "I <think> so"


def test_variants_of_a_label_are_summed() -> None:
    assert sum_logprobs({1: -1.0, 2: -1.0}, {"A": [1, 2]})["A"] == pytest.approx(-0.3069, abs=1e-4)


def test_a_pick_at_temperature_zero_is_the_likeliest() -> None:
    assert pick({"A": -3.0, "B": -1.0}, 0.0, None) == "B"
    drawn = [pick({"A": -1.0, "B": -1.0}, 1.0, seed) for seed in range(200)]
    assert 60 < drawn.count("A") < 140


async def test_a_batch_that_fails_fails_each_of_its_items_and_no_other() -> None:
    def run(items: list[int]) -> list[int]:
        if 3 in items:
            raise RequestRefusedError("three")
        return items

    batcher = Batcher(run, lengths=lambda item: (item,), rows=2)
    results = await asyncio.gather(*(batcher.submit(i) for i in (4, 3, 2, 1)), return_exceptions=True)
    await batcher.aclose()
    assert [type(result) for result in results] == [RequestRefusedError, RequestRefusedError, int, int]


@pytest.mark.parametrize(("ours", "others"), [(900, 10), (10, 900)])
async def test_no_length_waits_for_ever_under_steady_load(ours: int, others: int) -> None:
    runs: list[list[int]] = []

    def run(items: list[int]) -> list[int]:
        runs.append(items)
        return items

    batcher = Batcher(run, lambda item: (item,), rows=2, tokens=10_000)
    until = asyncio.Event()

    async def asker() -> None:
        while not until.is_set() and len(runs) < 200:
            await batcher.submit(others)

    askers = [asyncio.create_task(asker()) for _ in range(8)]
    await batcher.submit(others)
    await batcher.submit(ours)
    until.set()
    await asyncio.gather(*askers)
    await batcher.aclose()
    assert next(number for number, items in enumerate(runs) if ours in items) < 20


async def test_a_batch_is_bounded_by_its_tokens_with_their_padding() -> None:
    runs: list[list[int]] = []

    def run(items: list[int]) -> list[int]:
        runs.append(items)
        return items

    batcher = Batcher(run, lambda item: (item,), rows=4, tokens=1000)
    items = [2000, 400, 300, 300, 300, *([10] * 9)]
    assert await asyncio.gather(*map(batcher.submit, items)) == items
    await batcher.aclose()
    assert runs == [[2000], [400, 300], [300, 300, 10], [10] * 4, [10] * 4]


async def test_a_batch_ends_where_padding_would_cost_more_than_another() -> None:
    runs: list[list[int]] = []

    def run(items: list[int]) -> list[int]:
        runs.append(items)
        return items

    batcher = Batcher(run, lambda item: (item,), rows=64)
    items = [3000, 2900, 2800, *([100] * 8)]
    await asyncio.gather(*map(batcher.submit, items))
    await batcher.aclose()
    assert runs == [[3000, 2900, 2800], [100] * 8]


async def test_draws_that_end_early_leave_the_others_as_they_were(model: TransformersModel) -> None:
    limits = (1, 2, 3, 4, 5, 30, 40)
    requests = [
        CompletionRequest(user("Go on. " * n), Sampling(limit, temperature=0.0))
        for n, limit in enumerate(limits, start=1)
    ]
    together = await asyncio.gather(*map(model.complete, requests))
    alone = [await model.complete(request) for request in requests]
    assert [reply.completions[0].text for reply in together] == [r.completions[0].text for r in alone]
    assert [reply.completions[0].output_tokens for reply in alone] == list(limits)

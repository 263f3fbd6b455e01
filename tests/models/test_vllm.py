"""The vLLM adapter on a real engine; one engine serves the module."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from tiny_models import make_causal_lm, save_adapter

from prefgen.completion import CompletionRequest, Sampling
from prefgen.errors import ModelUnavailableError, RequestRefusedError, UsageError
from prefgen.messages import user
from prefgen.models.reloading import NotReloadedError, reload_checked
from prefgen.models.transformers import open_transformers
from prefgen.models.vllm import VLLMModel, open_vllm

QUESTION = user("Which response is better, A or B?")
GREEDY = Sampling(max_tokens=12, temperature=0.0)
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "score": {"enum": [0, 1]}},
    "required": ["ok", "score"],
    "additionalProperties": False,
}

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.asyncio(loop_scope="module"),
    # vLLM makes torch import a module of its own that still uses what torch deprecates.
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_causal_lm(tmp_path_factory.mktemp("lm"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(folder: Path) -> AsyncIterator[VLLMModel]:
    model = await open_vllm(str(folder), f"vllm/{folder}")
    yield model
    await model.aclose()


async def test_samples_together_are_the_samples_alone(model: VLLMModel) -> None:
    sampling = Sampling(max_tokens=16, temperature=1.0, seed=11)
    together = await model.complete(CompletionRequest(QUESTION, sampling, (0, 1, 2)))
    alone = await asyncio.gather(
        *(model.complete(CompletionRequest(QUESTION, sampling, (i,))) for i in (0, 1, 2))
    )
    apart = await model.complete(CompletionRequest(QUESTION, sampling, (2, 0)))
    texts = [completion.text for completion in together.completions]
    assert texts == [reply.completions[0].text for reply in alone]
    assert [texts[2], texts[0]] == [completion.text for completion in apart.completions]
    assert len(set(texts)) == 3
    assert [c.input_tokens for c in together.completions][1:] == [0, 0]
    assert [c.output_tokens for c in together.completions] == [16, 16, 16]


async def test_seeded_prompts_beyond_one_batch_of_tokens(model: VLLMModel) -> None:
    """More prompt tokens at once than one step of the engine takes, all with seeds."""
    requests = [
        CompletionRequest(user(f"{n} " * 100), Sampling(max_tokens=2, temperature=1.0, seed=n), (0, 1))
        for n in range(120)
    ]
    replies = await asyncio.gather(*map(model.complete, requests))
    assert [len(reply.completions) for reply in replies] == [2] * 120


async def test_label_logprobs_and_text_are_those_of_transformers(model: VLLMModel, folder: Path) -> None:
    other = await open_transformers(str(folder), "transformers/x")
    prompts = [user(f"Question {n}: " + "A or B? " * n) for n in range(1, 8)]
    for choices in ((), ("A", "B"), ("refund", "no cost")):
        requests = [CompletionRequest(p, GREEDY, label_words=("A", "B"), choices=choices) for p in prompts]
        seen, expected = [
            [reply.completions[0] for reply in await asyncio.gather(*map(m.complete, requests))]
            for m in (model, other)
        ]
        # vLLM holds back the bytes of a character that the limit cut in two.
        assert [c.text for c in seen] == [c.text.rstrip("\ufffd") for c in expected]
        for mine, theirs in zip(seen, expected, strict=True):
            assert mine.label_logprobs == pytest.approx(theirs.label_logprobs, abs=1e-2)
    await other.aclose()


async def test_an_answer_is_one_of_the_choices(model: VLLMModel) -> None:
    sampling = Sampling(max_tokens=4, temperature=1.0, seed=1)
    request = CompletionRequest(QUESTION, sampling, tuple(range(40)), choices=("A", "B"))
    reply = await model.complete(request)
    assert {c.text for c in reply.completions} == {"A", "B"}
    assert {c.finish_reason for c in reply.completions} == {"stop"}
    again = await model.complete(CompletionRequest(QUESTION, sampling, (7,), choices=("A", "B")))
    assert again.completions[0].text == reply.completions[7].text


async def test_an_answer_follows_the_schema_without_white_space(model: VLLMModel) -> None:
    sampling = Sampling(max_tokens=60, temperature=1.0, seed=3)
    reply = await model.complete(CompletionRequest(QUESTION, sampling, (0, 1, 2, 3), schema=SCHEMA))
    for completion in reply.completions:
        assert set(json.loads(completion.text)) == {"ok", "score"}
        assert "\n" not in completion.text
        assert completion.finish_reason == "stop"


async def test_a_schema_that_is_none_is_refused(model: VLLMModel) -> None:
    with pytest.raises(RequestRefusedError):
        await model.complete(CompletionRequest(QUESTION, schema={"type": "no such type"}))
    assert (await model.complete(CompletionRequest(QUESTION, GREEDY))).completions[0].text


async def test_an_answer_cut_by_the_limit_says_so(model: VLLMModel) -> None:
    reply = await model.complete(CompletionRequest(QUESTION, Sampling(max_tokens=3, temperature=0.0)))
    assert reply.completions[0].finish_reason == "length"
    assert reply.completions[0].output_tokens == 3
    to_the_end = await model.complete(CompletionRequest(QUESTION, Sampling(max_tokens=9999, seed=1)))
    assert to_the_end.completions[0].finish_reason in ("stop", "length")


async def test_a_prompt_too_long_is_refused(model: VLLMModel) -> None:
    with pytest.raises(RequestRefusedError, match="the model takes 511"):
        await model.complete(CompletionRequest(user("A B " * 400)))


async def test_a_temperature_out_of_range_is_refused(model: VLLMModel) -> None:
    with pytest.raises(RequestRefusedError, match="temperature"):
        await model.complete(CompletionRequest(QUESTION, Sampling(temperature=9.0)))


async def test_a_repeated_prompt_is_read_from_the_prefix_cache(model: VLLMModel) -> None:
    request = CompletionRequest(user("A B " * 200), GREEDY)
    first, second = [(await model.complete(request)).completions[0].cached_tokens for _ in range(2)]
    assert first == 0
    assert second is not None
    assert second > 0


async def test_the_hit_rate_counts_every_draw_of_a_prompt(model: VLLMModel) -> None:
    cache = model._engine.cache
    queries, hits = cache.queries, cache.hits
    request = CompletionRequest(
        user("B A " * 150), Sampling(max_tokens=2, temperature=1.0, seed=1), (0, 1, 2)
    )
    reply = await model.complete(request)
    tokens = reply.completions[0].input_tokens or 0
    assert cache.queries - queries == 3 * tokens
    assert tokens < cache.hits - hits < 2 * tokens, "two draws find what the first one put there"
    assert [completion.cached_tokens for completion in reply.completions] == [None] * 3
    assert model.prefix_cache_hit_rate == cache.hits / cache.queries


async def test_a_cancelled_request_is_aborted_in_the_engine(model: VLLMModel) -> None:
    sampling = Sampling(max_tokens=480, temperature=0.7, seed=1)
    task = asyncio.create_task(model.complete(CompletionRequest(QUESTION, sampling, tuple(range(20)))))
    await asyncio.sleep(0.3)
    assert model._engine.llm.get_num_unfinished_requests() > 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model._engine.llm.get_num_unfinished_requests() == 0


async def test_the_identity_is_that_of_the_weights(model: VLLMModel, folder: Path) -> None:
    other = await open_transformers(str(folder), "transformers/x")
    assert model.identity == other.identity.replace("transformers:", "vllm:")
    await other.aclose()


async def test_new_weights_go_into_the_running_engine(model: VLLMModel, folder: Path, tmp_path: Path) -> None:
    """What it says then is what transformers says of the new weights, with the prompt in its prefix cache."""
    other = make_causal_lm(tmp_path / "other", seed=1)
    request = CompletionRequest(user("A B " * 100), GREEDY, label_words=("A", "B"))
    old, identity = (await model.complete(request)).completions[0], model.identity
    await reload_checked(model, str(other), f"vllm/{other}")
    assert (model.spec, model.identity == identity) == (f"vllm/{other}", False)
    new = (await model.complete(request)).completions[0]
    reference = await open_transformers(str(other), "transformers/x")
    expected = (await reference.complete(request)).completions[0]
    await reference.aclose()
    assert new.label_logprobs == pytest.approx(expected.label_logprobs, abs=1e-3)
    assert new.label_logprobs != pytest.approx(old.label_logprobs, abs=0.1)
    await reload_checked(model, str(folder), f"vllm/{folder}")
    assert model.identity == identity
    assert (await model.complete(request)).completions[0].label_logprobs == pytest.approx(
        old.label_logprobs, abs=1e-3
    )


async def test_weights_that_do_not_fit_leave_the_engine_as_it_was(model: VLLMModel, tmp_path: Path) -> None:
    request = CompletionRequest(QUESTION, GREEDY, label_words=("A", "B"))
    before = await model.complete(request)
    shorter = make_causal_lm(tmp_path / "shorter", seed=1, context=256)
    with pytest.raises(NotReloadedError, match="another shape: max_position_embeddings"):
        await model.reload(str(shorter), "vllm/x")
    halved = make_causal_lm(tmp_path / "halved", seed=1)
    config = json.loads((halved / "config.json").read_text())
    (halved / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    with pytest.raises(NotReloadedError, match="another precision: float32, then bfloat16"):
        await model.reload(str(halved), "vllm/x")
    assert await model.complete(request) == before


async def test_an_unknown_option_names_the_nearest(folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'max_model_len'"):
        await open_vllm(str(folder), "vllm/x", {"max_model_length": 100})
    with pytest.raises(UsageError, match="unknown option 'trust_remote_code'"):
        await open_vllm(str(folder), "vllm/x", {"trust_remote_code": True})


async def test_a_failed_start_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="there is no folder"):
        await open_vllm(str(tmp_path / "gone"), "vllm/gone")
    with pytest.raises(ModelUnavailableError, match="max_model_len"):
        await open_vllm(str(folder), "vllm/x", {"max_model_len": 100_000})


# What vLLM leaves open when it fails is closed by the collector.
@pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning")
async def test_a_start_that_fails_in_the_engine_names_the_cause(tmp_path: Path) -> None:
    folder = make_causal_lm(tmp_path)
    (folder / "model.safetensors").write_bytes(b"not weights")
    before = _engine_processes()
    message = await _failed_start(folder)
    assert "SafetensorError" in message
    assert "from its log" in message
    assert _engine_processes() == before
    gc.collect()


async def _failed_start(folder: Path) -> str:
    with pytest.raises(ModelUnavailableError) as caught:
        await open_vllm(str(folder), "vllm/x")
    return str(caught.value)


async def test_after_closing_no_process_is_left(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = _engine_processes()
    model = await open_vllm(str(folder), "vllm/x")
    assert _engine_processes() > before
    sampling = Sampling(max_tokens=480, temperature=0.7, seed=1)
    waiting = asyncio.create_task(model.complete(CompletionRequest(QUESTION, sampling, tuple(range(40)))))
    await asyncio.sleep(0.3)
    capfd.readouterr()
    for _ in range(2):
        await model.aclose()
    assert capfd.readouterr() == ("", "")
    assert _engine_processes() == before
    with pytest.raises(ModelUnavailableError, match="died"):
        await waiting
    with pytest.raises(ModelUnavailableError, match="closed"):
        await model.complete(CompletionRequest(QUESTION))


async def test_a_killed_parent_leaves_no_engine(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    engine, printed = await asyncio.to_thread(_kill_parent, [sys.executable, str(script), str(folder)])
    assert engine, printed
    assert printed == "", "the engine wrote to the terminal"
    _, left = psutil.wait_procs(engine, timeout=10)
    assert not left


def _kill_parent(command: list[str]) -> tuple[list[psutil.Process], str]:
    """The processes that a parent had when it was killed, and what it printed to standard error."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        engine = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
        return engine, parent.stderr.read()


async def test_an_adapter_is_served_over_its_base(folder: Path, tmp_path: Path) -> None:
    save_adapter(folder, tmp_path / "adapter")
    request = CompletionRequest(QUESTION, GREEDY, label_words=("A", "B"))
    found = []
    for model in (
        await open_vllm(str(tmp_path / "adapter"), "vllm/x"),
        await open_transformers(str(tmp_path / "adapter"), "transformers/x"),
    ):
        found.append((await model.complete(request)).completions[0].label_logprobs)
        await model.aclose()
    assert found[0] == pytest.approx(found[1], abs=1e-2)


def _engine_processes() -> set[int]:
    """Children but multiprocessing's resource tracker, which lives as long as this process."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if "resource_tracker" not in " ".join(child.cmdline())}


_PARENT = """
import asyncio, sys
import psutil
from prefgen.models.vllm import open_vllm

async def main():
    model = await open_vllm(sys.argv[1], "vllm/x")
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""

"""vLLM in process: our path (chat template, engine, ledger) over `LLM.generate` on the same prompts and
parameters, and what its prefix cache gives.

Both engines are alive and take turns; a ratio is the median over the turns, whoever goes first. Judging asks
about every pair of candidates in both orders, prompt by prompt as `generate` does and once scattered, with a
cache that holds a small part of the job.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

# vLLM reads these when it is imported.
os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1", "TQDM_DISABLE": "1"}

from judges.asking import Asking, Question, wordings
from judges.constitution import load_constitution
from judges.evidence import TwoWords
from judges.prompting import fenced, shipped
from pipelines.line import in_order
from prefgen.budget import Account
from prefgen.completion import CompletionRequest, Sampling
from prefgen.engine import EngineModel, Limits
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models.vllm import VLLMModel, open_vllm
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.sampling import prompt_seed

QUICKSTART = Path(__file__).parent.parent / "data" / "quickstart"
POLICY = str(QUICKSTART / "models" / "policy")
# The judge's question has more tokens of this small vocabulary than the model was trained for; the times are
# the same.
OPTIONS: dict[str, Any] = {
    "max_model_len": 1024,
    "hf_overrides": {"max_position_embeddings": 1024},
    "max_num_seqs": 64,
    "num_gpu_blocks_override": 160,
}
PROMPTS, DRAWS, JUDGED, CONCURRENCY = 80, 4, 40, 64
TURNS = 3


def sampling_requests() -> list[CompletionRequest]:
    """The quickstart's prompts as `generate` puts them."""
    rows = [json.loads(line) for line in (QUICKSTART / "prompts.jsonl").read_text().splitlines()]
    return [
        CompletionRequest(
            user(row["prompt"]), Sampling(48, 1.0, seed=prompt_seed(0, row["id"])), tuple(range(DRAWS))
        )
        for row in rows[:PROMPTS]
    ]


def judging_requests() -> list[CompletionRequest]:
    """Three replies to each prompt, as the pairwise judge asks about them."""
    rows = [json.loads(line) for line in (QUICKSTART / "demonstrations.jsonl").read_text().splitlines()]
    principles = load_constitution("helpful-honest-harmless").as_list()
    body, form = shipped("pairwise"), TwoWords(("A", "B"), "percent_a")
    asked = []
    for number in range(JUDGED):
        group = rows[6 * number : 6 * number + 6]
        prompt = Prompt(str(number), user(" ".join(row["prompt"] for row in group)))
        for a, b in permutations([row["completion"] for row in group[:3]], 2):
            values = fenced(prompt, response_a=a, response_b=b) | {"principles": principles}
            asked.append(Question(body, values, wordings("pairwise"), form).request("logprobs", Asking()))
    return asked


class Recorder:
    """In the place of the engine's `generate`: what crosses the border to vLLM."""

    def __init__(self, model: VLLMModel) -> None:
        self._generate = model._engine.llm.generate
        self.requests: list[tuple[Any, Any]] = []
        model._engine.llm.generate = self

    def __call__(self, prompt: Any, params: Any, *rest: Any, **more: Any) -> Any:
        self.requests.append((prompt, params))
        return self._generate(prompt, params, *rest, **more)


async def ours(model: VLLMModel, requests: Sequence[CompletionRequest]) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        recorded = RecordedModel(EngineModel(model, Limits(CONCURRENCY), Account()), ledger)
        async for _ in in_order((recorded.complete(request) for request in requests), 2 * CONCURRENCY):
            pass


def offline(llm: Any, prompts: Sequence[str], params: Sequence[Any]) -> None:
    """The rendered texts: both sides turn them into tokens."""
    llm.generate(prompts, params, use_tqdm=False)


async def timed(work: Callable[[], Coroutine[Any, Any, None]]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process, in which no model runs."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - wall, time.process_time() - cpu


async def compare(name: str, model: VLLMModel, llm: Any, requests: Sequence[CompletionRequest]) -> None:
    recorder = Recorder(model)
    await ours(model, requests)
    prompts = [model._chat._render(r.messages, add_generation_prompt=True) for r in requests]
    params = [params for _, params in recorder.requests]
    ratios, mine_cpu, their_cpu = [], [], []
    cache = model._engine.cache
    for turn in range(TURNS):
        await model._engine.llm.reset_prefix_cache()
        await asyncio.to_thread(llm.reset_prefix_cache)
        cache.queries = cache.hits = 0
        sides = [
            lambda: ours(model, requests),
            lambda: asyncio.to_thread(offline, llm, prompts, params),
        ]
        first = turn % 2
        seconds = {first: await timed(sides[first])}
        seconds[1 - first] = await timed(sides[1 - first])
        ratios.append(seconds[1][0] / seconds[0][0])
        mine_cpu.append(seconds[0][1])
        their_cpu.append(seconds[1][1])
    each = 1000 / len(requests)
    print(
        f"{name}: {len(requests)} requests, {100 * median(ratios):.0f}% of the offline throughput; "
        f"CPU before the engine {each * median(mine_cpu):.1f} ms a request, offline "
        f"{each * median(their_cpu):.1f} ms; "
        f"{cache.hit_rate:.0%} of the prompt tokens from the prefix cache"
    )


async def main() -> None:
    from vllm import LLM

    model = await open_vllm(POLICY, f"vllm/{POLICY}", OPTIONS)
    llm = await asyncio.to_thread(
        LLM, POLICY, enforce_eager=True, enable_chunked_prefill=False, dtype="bfloat16", **OPTIONS
    )
    await compare("sampling", model, llm, sampling_requests())
    judging = judging_requests()
    await compare("judging ", model, llm, judging)
    cache = model._engine.cache
    await model._engine.llm.reset_prefix_cache()
    cache.queries = cache.hits = 0
    random.Random(0).shuffle(judging)
    await ours(model, judging)
    print(f"judging, scattered: {cache.hit_rate:.0%} of the prompt tokens from the prefix cache")
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(main())

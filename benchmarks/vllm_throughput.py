"""vLLM in process: our path (chat template, engine, ledger) over `LLM.generate`, and what the prefix cache gives.

Both engines are alive at once and take turns on the same token ids and parameters; the printed ratio is the
median over the turns. Judging asks about every pair of candidates in both orders, prompt by prompt as
`generate` does and once scattered, in a cache that holds only a few prompts at a time, as in a long run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
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
from prefgen.completion import CompletionRequest, Sampling
from prefgen.engine import Budget, EngineModel, Limits
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models.vllm import VLLMModel, open_vllm
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.sampling import prompt_seed

QUICKSTART = Path(__file__).parent.parent / "data" / "quickstart"
POLICY = str(QUICKSTART / "models" / "policy")
BLOCK, BLOCKS = int(os.environ.get("BLOCK", 128)), int(os.environ.get("BLOCKS", 0))
OPTIONS: dict[str, Any] = {
    "max_model_len": 1024,
    "hf_overrides": {"max_position_embeddings": 1024},
    "block_size": BLOCK,
}
if BLOCKS:
    OPTIONS["num_gpu_blocks_override"] = BLOCKS
DRAWS, TURNS, CONCURRENCY = 4, int(os.environ.get("ROUNDS", 3)), int(os.environ.get("CONC", 256))
NP = int(os.environ.get("NP", 256))


def sampling_requests() -> list[CompletionRequest]:
    """The quickstart's prompts as `generate` puts them."""
    rows = [json.loads(line) for line in (QUICKSTART / "prompts.jsonl").read_text().splitlines()][:NP]
    draws = tuple(range(DRAWS))
    return [
        CompletionRequest(user(row["prompt"]), Sampling(120, 1.0, seed=prompt_seed(0, row["id"])), draws)
        for row in rows
    ]


def judging_requests(prompts: int = 64, candidates: int = 4) -> list[CompletionRequest]:
    """All pairs of the demonstrations' replies in both orders, as the pairwise judge puts them."""
    rows = [json.loads(line) for line in (QUICKSTART / "demonstrations.jsonl").read_text().splitlines()]
    replies = [row["messages"][-1]["content"] if "messages" in row else row["completion"] for row in rows]
    principles = load_constitution("helpful-honest-harmless").as_list()
    asked = []
    for number in range(prompts):
        text = json.dumps(rows[number])[:150]
        prompt = Prompt(f"p{number}", user(text))
        for a, b in permutations(replies[number * candidates : (number + 1) * candidates], 2):
            values = fenced(prompt, response_a=a, response_b=b) | {"principles": principles}
            question = Question(
                shipped("pairwise"), values, wordings("pairwise"), TwoWords(("A", "B"), "percent_a")
            )
            asked.append(question.request("logprobs", Asking()))
    return asked


class Recorder:
    """What crosses the border to vLLM: token ids and parameters of each request."""

    def __init__(self, llm: Any) -> None:
        self._generate = llm.generate
        self.requests: list[tuple[Any, Any]] = []

    def __call__(self, prompt: Any, params: Any, *rest: Any, **more: Any) -> Any:
        self.requests.append((prompt, params))
        return self._generate(prompt, params, *rest, **more)


async def ours(model: VLLMModel, requests: Sequence[CompletionRequest]) -> tuple[float, float]:
    """Wall seconds for all requests, through engine and a fresh ledger, and the hit rate of the prefix cache."""
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        recorded = RecordedModel(EngineModel(model, Limits(CONCURRENCY), Budget()), ledger)
        await model._engine.llm.reset_prefix_cache()
        cache = model._engine.cache
        cache.queries = cache.hits = 0
        start = time.perf_counter()
        async for _ in in_order((recorded.complete(request) for request in requests), 2 * CONCURRENCY):
            pass
        return time.perf_counter() - start, cache.hit_rate or 0.0


def offline(llm: Any, requests: Sequence[tuple[Any, Any]]) -> float:
    llm.reset_prefix_cache()
    start = time.perf_counter()
    llm.generate([prompt for prompt, _ in requests], [params for _, params in requests], use_tqdm=False)
    return time.perf_counter() - start


async def main() -> None:
    from vllm import LLM

    model = await open_vllm(POLICY, f"vllm/{POLICY}", OPTIONS)
    recorder = Recorder(model._engine.llm)
    model._engine.llm.generate = recorder
    llm = await asyncio.to_thread(
        LLM,
        POLICY,
        enforce_eager=True,
        enable_chunked_prefill=False,
        enable_prefix_caching=True,
        dtype="bfloat16",
        disable_log_stats=True,
        **OPTIONS,
    )
    requests = sampling_requests()
    judged = judging_requests()
    await ours(model, requests[:16])
    for name, asked in (("sampling", requests), ("judging", judged)):
        recorder.requests.clear()
        ratios = []
        for _ in range(TURNS):
            recorder.requests.clear()
            cpu = time.process_time()
            mine, rate = await ours(model, asked)
            cpu = time.process_time() - cpu
            played = list(recorder.requests)
            cpu2 = time.process_time()
            theirs = await asyncio.to_thread(offline, llm, played)
            cpu2 = time.process_time() - cpu2
            ratios.append(theirs / mine)
            print(
                f"  {mine:.2f} s ours ({cpu:.2f} CPU), {theirs:.2f} s offline ({cpu2:.2f} CPU)  {len(played)}, hit rate {rate:.3f}"
            )
        print(
            f"{name}: {median(ratios):.3f} of the offline throughput; tokens {sum(len(p['prompt_token_ids']) for p, _ in played) / len(played)}"
        )
    random.Random(0).shuffle(judged)
    mine, rate = await ours(model, judged)
    print("scattered", mine, rate)
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(main())

"""transformers in process: batches by length under steady load, over batches of 16 in order of arrival.

Whoever is answered asks the next question at once. Time is CPU time of one thread.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

from prefgen.completion import CompletionRequest, Sampling
from prefgen.messages import user
from prefgen.models.batching import Batcher
from prefgen.models.transformers import TransformersModel, open_transformers

QUICKSTART = Path(__file__).parent.parent / "data" / "quickstart"
POLICY = str(QUICKSTART / "models" / "policy")
ASKERS, REQUESTS, MOST_NEW = 48, 96, 32


def requests() -> list[CompletionRequest]:
    """One to twelve of the quickstart's prompts in a row, two draws each."""
    texts = [json.loads(line)["prompt"] for line in (QUICKSTART / "prompts.jsonl").read_text().splitlines()]
    draw = random.Random(0)
    return [
        CompletionRequest(
            user(" ".join(draw.choices(texts, k=draw.choice((1, 1, 1, 2, 3, 12))))),
            Sampling(MOST_NEW, 1.0, seed=number),
            (0, 1),
        )
        for number in range(REQUESTS)
    ]


class Counted:
    """A batch runner, and the tokens of the prompts it was given: with their padding, and without."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.tokens = self.padded = self.batches = 0

    def __call__(self, draws: list[Any]) -> list[Any]:
        lengths = [len(draw.prompt) for draw in draws]
        self.batches += 1
        self.tokens += sum(lengths)
        self.padded += max(lengths) * len(lengths)
        return list(self._run(draws))


async def measure(model: TransformersModel, name: str, batcher: Batcher[Any, Any]) -> None:
    model._batcher, batcher._run = batcher, (counted := Counted(batcher._run))
    waiting, written, cpu = iter(requests()), 0, time.process_time()

    async def asker() -> None:
        nonlocal written
        for request in waiting:
            reply = await model.complete(request)
            written += sum(completion.output_tokens or 0 for completion in reply.completions)

    await asyncio.gather(*(asker() for _ in range(ASKERS)))
    cpu = time.process_time() - cpu
    await batcher.aclose()
    print(
        f"{name}: {counted.batches} batches, padding is {1 - counted.tokens / counted.padded:.0%} of the "
        f"prompts' tokens, {(counted.tokens + written) / cpu:.0f} tokens a second"
    )


async def main() -> None:
    import torch

    torch.set_num_threads(1)
    model = await open_transformers(POLICY, f"transformers/{POLICY}")
    by_length = model._batcher
    await measure(model, "in order of arrival", Batcher(model._write, lambda draw: (0,), 16))
    await measure(model, "by length          ", by_length)


if __name__ == "__main__":
    asyncio.run(main())

"""Does a trained model answer alike in transformers and in vLLM? What is trained must be what is served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefgen.completion import CompletionRequest, Sampling
from prefgen.errors import GateError
from prefgen.messages import Messages, user
from prefgen.models import open_model, open_reward_model

TOLERANCE = 0.05
"""Largest difference allowed, in nats or units of reward; bf16 kernels differ by less."""
_PROMPTS = ("Hello, where is my order?", "Write one sentence about the sea.", "What is 12 times 12?")
_WORDS = ("A", "B", "Yes", "No", "The", "I", "yes", "no", "Hello", "Hi")


async def compare_policies(folder: Path) -> float:
    """Largest difference of first-token log-probabilities, over some prompts and words."""
    seen = [await _log_probabilities(f"{provider}/{folder}") for provider in ("transformers", "vllm")]
    return largest_difference(*seen)


async def compare_rewards(folder: Path) -> float:
    """Largest difference of scores, over some prompts and answers."""
    seen = [await _scores(f"{provider}/{folder}") for provider in ("transformers", "vllm")]
    return largest_difference(*seen)


def largest_difference(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> float:
    """Over the names both have, row by row. Raises GateError where they share none."""
    differences = [abs(a[name] - b[name]) for a, b in zip(ours, theirs, strict=True) for name in a.keys() & b]
    if not differences:
        raise GateError("nothing could be compared: the model's tokenizer has none of the words asked for")
    return max(differences)


def check_served(folder: Path, *, reward: bool) -> dict[str, Any]:
    """Loads `folder` in both engines and compares. Raises GateError where they differ."""
    difference = asyncio.run(compare_rewards(folder) if reward else compare_policies(folder))
    if difference > TOLERANCE:
        raise GateError(
            f"{folder}: vLLM and transformers differ by {difference:.3g} (allowed: {TOLERANCE}); "
            "do not serve this model before you know why"
        )
    return {"folder": str(folder), "max_difference": difference}


async def _log_probabilities(spec: str) -> list[Mapping[str, float]]:
    model = await open_model(spec)
    try:
        requests = [
            CompletionRequest(user(prompt), Sampling(max_tokens=1, temperature=0.0), label_words=_WORDS)
            for prompt in _PROMPTS
        ]
        replies = await asyncio.gather(*(model.complete(request) for request in requests))
        return [reply.completions[0].label_logprobs or {} for reply in replies]
    finally:
        await model.aclose()


async def _scores(spec: str) -> list[Mapping[str, float]]:
    model = await open_reward_model(spec)
    try:
        rows: list[tuple[Messages, str]] = [
            (user(p), a) for p in _PROMPTS for a in ("Yes.", "I am not sure.")
        ]
        scores = await asyncio.gather(*(model.score(messages, answer) for messages, answer in rows))
        return [{"score": score} for score in scores]
    finally:
        await model.aclose()

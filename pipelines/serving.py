"""Does a trained model answer alike in transformers and in vLLM? What is trained must be what is served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefgen.errors import GateError
from prefgen.messages import Messages, user
from prefgen.models import open_model, open_reward_model
from prefgen.models.reloading import PROBES, TOLERANCE, first_words, largest_difference


async def compare_policies(folder: Path) -> float:
    """Largest difference of first-token log-probabilities, over some prompts and words."""
    seen = [await _log_probabilities(f"{provider}/{folder}") for provider in ("transformers", "vllm")]
    return largest_difference(*seen)


async def compare_rewards(folder: Path) -> float:
    """Largest difference of scores, over some prompts and answers."""
    seen = [await _scores(f"{provider}/{folder}") for provider in ("transformers", "vllm")]
    return largest_difference(*seen)


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
        return await first_words(model)
    finally:
        await model.aclose()


async def _scores(spec: str) -> list[Mapping[str, float]]:
    model = await open_reward_model(spec)
    try:
        rows: list[tuple[Messages, str]] = [(user(p), a) for p in PROBES for a in ("Yes.", "I am not sure.")]
        scores = await asyncio.gather(*(model.score(messages, answer) for messages, answer in rows))
        return [{"score": score} for score in scores]
    finally:
        await model.aclose()

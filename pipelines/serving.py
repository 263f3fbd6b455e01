"""Does a trained model answer alike in transformers and in vLLM? What is trained must be what is served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.reward_models import Said, score_all
from prefgen.errors import GateError
from prefgen.messages import user
from prefgen.models import open_model
from prefgen.models.ensemble import find_ensemble
from prefgen.models.reloading import PROBES, TOLERANCE, first_words, largest_difference

REWARD_TOLERANCE = 1e-2
"""Largest difference allowed of a reward."""
_OURS: tuple[Said, ...] = tuple(
    (user(prompt), answer) for prompt in PROBES for answer in ("Yes.", "I am not sure.")
)


async def compare_policies(folder: Path) -> float:
    """Largest difference of first-token log-probabilities, over some prompts and words."""
    seen = [await _log_probabilities(f"{provider}/{folder}") for provider in ("transformers", "vllm")]
    return largest_difference(*seen)


async def compare_rewards(folder: Path, said: Sequence[Said] = ()) -> float:
    """Largest difference of rewards, of these responses or some of our own; of an ensemble, of any member."""
    ensemble = find_ensemble(str(folder))
    folders = [folder / member.path for member in ensemble.members] if ensemble else [folder]
    return max([await _compare_head(path, said or _OURS) for path in folders])


async def _compare_head(folder: Path, said: Sequence[Said]) -> float:
    ours = await score_all(f"transformers/{folder}", said)
    theirs = await score_all(f"vllm/{folder}", said)
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


def check_served(folder: Path, *, reward: bool, said: Sequence[Said] = ()) -> dict[str, Any]:
    """Loads `folder` in both engines and compares. `said`: responses to compare rewards on. Raises GateError
    where they differ."""
    difference = asyncio.run(compare_rewards(folder, said) if reward else compare_policies(folder))
    tolerance = REWARD_TOLERANCE if reward else TOLERANCE
    # Written so that NaN fails.
    if not difference <= tolerance:
        raise GateError(
            f"{folder}: vLLM and transformers differ by {difference:.3g} (allowed: {tolerance}); "
            "do not serve this model before you know why"
        )
    return {"folder": str(folder), "max_difference": difference}


async def _log_probabilities(spec: str) -> list[Mapping[str, float]]:
    model = await open_model(spec)
    try:
        return await first_words(model)
    finally:
        await model.aclose()

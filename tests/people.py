"""Simulated annotators of the scripted writer's responses."""

from __future__ import annotations

import math
import random
from pathlib import Path

from running import rows, write_prompts


def simulated_labels(path: Path, run: Path, count: int) -> Path:
    """People who prefer the richer response with log-odds half of what the scripted judge says."""
    texts = {row["candidate_id"]: row for row in rows(run / "candidates.parquet")}
    met = {(row["a_id"], row["b_id"]) for row in rows(run / "judgments.parquet")}
    draw = random.Random(0)
    found = []
    for number, (a, b) in enumerate(draw.sample(sorted(met), count)):
        one, other = texts[a]["response"], texts[b]["response"]
        label = "a" if draw.random() < chance(one, other) else "b"
        found.append(
            {
                "id": number,
                "prompt": texts[a]["prompt"],
                "response_a": one,
                "response_b": other,
                "label": label,
            }
        )
    return write_prompts(path, found)


def chance(one: str, other: str) -> float:
    """That people prefer the first."""
    words = [len(set(text.lower().split())) for text in (one, other)]
    return 1 / (1 + math.exp(-0.5 * (words[0] - words[1])))

"""Simulated annotators of the scripted writer's responses."""

from __future__ import annotations

import math
import random
from pathlib import Path

from running import FAKES, process, rows, some_prompts, write_prompts


def labelled_run(folder: Path, prompts: int) -> Path:
    """`p.jsonl`, a `run` of scripted models on it, and `l.jsonl`: labels of one pair of each prompt."""
    some_prompts(folder / "p.jsonl", prompts)
    ledger = {"PREFGEN_LEDGER": str(folder / "ledger.sqlite")}
    done = process("generate", folder / "p.jsonl", *FAKES, "--n", 4, "--out", folder / "run", env=ledger)
    assert done.code == 0, done.err
    simulated_labels(folder / "l.jsonl", folder / "run", prompts)
    return folder


def simulated_labels(path: Path, run: Path, count: int) -> Path:
    """One pair of each of the first `count` prompts, and people who prefer the richer response with log-odds
    half of what the scripted judge says."""
    texts = {row["candidate_id"]: row for row in rows(run / "candidates.parquet")}
    met: dict[str, set[tuple[str, str]]] = {}
    for row in rows(run / "judgments.parquet"):
        met.setdefault(row["prompt_id"], set()).add((row["a_id"], row["b_id"]))
    draw = random.Random(0)
    found = []
    for number, pairs in enumerate(list(met.values())[:count]):
        a, b = draw.choice(sorted(pairs))
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

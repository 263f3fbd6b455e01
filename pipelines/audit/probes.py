"""What a judge makes of the form of the run's own responses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from judges.judge import Judge
from judges.probes import ProbeKind, Variant, probed, variants
from pipelines.audit.tables import prompts_of
from pipelines.judge import JudgedPair, judge_pairs
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeFailure
from prefgen.labels import Pair
from prefgen.messages import content_hash, parse_messages
from prefgen.prompt import Prompt


async def probe_judge(judge: Judge, path: Path, n: int, seed: int) -> tuple[dict[str, Any], Counter[str]]:
    """What the judge prefers, by kind of variant, and its failed calls by cause."""
    asked = [
        (variant.kind, _pair(prompt, variant))
        for prompt, text in _responses(path, n, seed)
        for variant in variants(text)
    ]
    judged = await judge_pairs(judge, [pair for _, pair in asked])
    margins: dict[ProbeKind, list[float | None]] = defaultdict(list)
    for (kind, _), item in zip(asked, judged, strict=True):
        margins[kind].append(item.margin)
    told: dict[str, Any] = {
        kind: {
            "n": found.n,
            "prefers_variant": found.share,
            "ci": list(found.ci),
            "ties": found.ties,
            "failed": found.failed,
        }
        for kind, found in probed(margins).items()
    }
    return told, Counter(_statuses(judged))


def _statuses(judged: list[JudgedPair]) -> Iterator[str]:
    for item in judged:
        for result in item.results:
            yield result.status if isinstance(result, JudgeFailure) else "ok"


def _responses(path: Path, n: int, seed: int) -> list[tuple[Prompt, str]]:
    """One response that has variants of each of `n` prompts, in an order fixed by ids and seed."""
    found: list[tuple[str, Prompt, str]] = []
    for prompt_id, messages, candidates in prompts_of(path):
        rows = [row for row in candidates if row["finish_reason"] != "length" and variants(row["response"])]
        if rows:
            row = min(rows, key=lambda row: content_hash([seed, row["candidate_id"]]))
            prompt = Prompt(prompt_id, parse_messages(messages))
            found.append((content_hash([seed, prompt_id]), prompt, row["response"]))
            found = sorted(found, key=lambda item: item[0])[:n]
    return [(prompt, text) for _, prompt, text in found]


def _pair(prompt: Prompt, variant: Variant) -> Pair:
    sides = [
        Candidate(prompt.id, text, f"probe/{variant.kind}", place)
        for place, text in enumerate((variant.changed, variant.original))
    ]
    return Pair(f"{prompt.id}/{variant.kind}", prompt, sides[0], sides[1])

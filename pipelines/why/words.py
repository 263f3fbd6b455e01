"""What `prefgen why` found as text: some pairs of a run, the pairs of a prompt, or the story of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from pipelines.markup import signed
from pipelines.plain_table import plain_table
from pipelines.why.lines import heading, messages, shortened
from pipelines.why.story_words import story_lines

Found = Mapping[str, Any]


def why_text(found: Found) -> str:
    if "least_sure" in found:
        return "\n".join(_listing(found))
    return "\n".join(_of_prompt(found) if "pairs" in found else story_lines(found))


def _listing(found: Found) -> Iterator[str]:
    kinds = {"least_sure": "nearest the threshold", "surest": "clearest", "undecided": "not clear enough"}
    counts = found["counts"]
    yield f"{counts['pairs']:,} pairs, {counts['unsure']:,} that were not clear enough"
    for kind, name in kinds.items():
        if not found[kind]:
            continue
        yield from ("", f"{name}:")
        for row in found[kind]:
            sure = "      " if row.get("confidence") is None else f"{row['confidence']:.4f}"
            yield f"  {row['pair_id']}  {sure}  {shortened(row['prompt'], 60)}"
    yield ""
    yield f"prefgen why {found['run']} ID tells of one; an id of a prompt lists all its pairs"


def _of_prompt(found: Found) -> Iterator[str]:
    yield from heading("Prompt", found["prompt_id"])
    yield from messages(found["prompt"])
    yield from heading("Responses", "the best first")
    for item in sorted(found["candidates"], key=_best_first):
        yield f"  {item['candidate_id']}  {signed(item['score'], 3)}  {shortened(item['text'], 60)}"
    yield from heading("Pairs", "with a margin, the better one on the left")
    rows = [
        [
            row["better"],
            row["worse"],
            "kept" if row["kept"] else row["reason"].replace("_", " "),
            signed(row["margin"], 3),
            "–" if row["confidence"] is None else f"{row['confidence']:.3f}",
            row["pair_id"] or "",
        ]
        for row in found["pairs"]
    ]
    head = ["better", "worse", "", "margin", "confidence", "id"]
    yield from (f"  {line}" for line in plain_table(head, rows, left=3))
    yield ""
    yield f"prefgen why {found['run']} ID tells of one; of a pair without an id give both responses"


def _best_first(candidate: Found) -> float:
    return inf if candidate["score"] is None else -candidate["score"]

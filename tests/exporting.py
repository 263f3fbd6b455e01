"""Small finished runs with rows of one's own, for the tests of `prefgen export`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefgen.candidate import Candidate
from prefgen.messages import Message, Messages, as_dicts, user
from prefgen.pairing import KTORow
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.rows import CarriedColumns, Format, dpo_row, dpo_schema, kto_row, kto_schema
from prefgen.tables import CANDIDATES, TableWriter

TALK: Messages = (
    Message("system", "Be brief."),
    Message("user", "Where is my parcel?"),
    Message("assistant", "Which order?"),
    Message("user", "D14, please."),
)


@dataclass
class Made:
    """A pair and its two responses, or a labelled response where `rejected` is None."""

    prompt: Messages
    chosen: str = "It arrives on Tuesday."
    rejected: str = "No idea, sorry."
    columns: dict[str, Any] = field(default_factory=dict)


def write_run(
    run: Path, train: Sequence[Made], test: Sequence[Made] = (), format: Format = "conversational"
) -> Path:
    """A run directory whose pairs are these; each side of a pair is a KTO row too."""
    run.mkdir()
    carried = CarriedColumns()
    for made in (*train, *test):
        carried.see(made.columns)
    candidates = TableWriter(run / "candidates.parquet", CANDIDATES)
    place = 0
    for split, rows in (("train", train), ("test", test)):
        pairs = TableWriter(run / "dpo" / f"{split}.parquet", dpo_schema(format, carried))
        labelled = TableWriter(run / "kto" / f"{split}.parquet", kto_schema(format, carried))
        for made in rows:
            place += 1
            prompt = Prompt(f"p{place}", made.prompt, made.columns)
            sides = [
                Candidate(prompt.id, text, "test/writer", n)
                for n, text in enumerate((made.chosen, made.rejected))
            ]
            for side in sides:
                candidates.append(
                    {"candidate_id": side.id, "prompt_id": prompt.id, "prompt": as_dicts(prompt.messages),
                     "response": side.text, "columns": json.dumps(made.columns)}
                )  # fmt: skip
            extra = carried.values(made.columns)
            pairs.append(dpo_row(Preference(prompt, *sides, 1.5, 0.9), format) | extra)
            for label, side in zip((True, False), sides, strict=True):
                labelled.append(kto_row(KTORow(prompt, side, label, 0.0), format) | extra)
        pairs.publish()
        labelled.publish()
    candidates.publish()
    config = {"policy": ["vllm//home/me/models/policy"], "judge": ["openai/judge@http://10.0.0.7/v1"],
              "constitution": "/home/me/c.yaml", "min_confidence": 0.8, "reward_model": None}  # fmt: skip
    counts = dict.fromkeys(("prompts", "candidates", "judgments", "pairs"), place)
    (run / "config.yaml").write_text(f"format: {format}\n")
    (run / "manifest.json").write_text(json.dumps({"config": config, "counts": counts, "calibration": None}))
    return run


def plain(number: int, **columns: Any) -> Made:
    return Made(
        user(f"Question {number}: what now?"), f"Answer {number}.", f"No answer to {number}.", columns
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]

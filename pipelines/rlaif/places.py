"""Where everything of a loop lies.

```
OUT/config.yaml              resolved, first
OUT/start/revise, start/sft  the constitutional recipe
OUT/rounds/0/answers.jsonl   what the start says to the held-out prompts
OUT/rounds/K/prompts.jsonl   the round's slice of the prompts, where it is not all of them
OUT/rounds/K/run/            a run directory
OUT/rounds/K/check.jsonl, labels.jsonl, human.json   the human check
OUT/rounds/K/train.parquet   the round's own pairs with those given
OUT/rounds/K/reward/         a reward model of the round's pairs
OUT/rounds/K/model/          the trained model; merged/ in it where an adapter was trained
OUT/rounds/K/answers.jsonl, annotations*.jsonl, evaluation.json, round.json (the round is complete)
OUT/best.json, best          the best round, and a link to its model
OUT/rounds.json  lineage.parquet  report.html  manifest.json (last)
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RoundPlace:
    """One round's folder; 0 is the start."""

    out: Path
    number: int

    @property
    def folder(self) -> Path:
        return self.out / "rounds" / str(self.number)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def mixed(self) -> Path:
        return self.folder / "train.parquet"

    @property
    def record(self) -> Path:
        """Written last."""
        return self.folder / "round.json"

    def annotations(self, which: str) -> Path:
        """`start`, `last`: by the held-out judge; `training`: by the training judge, over the start."""
        return self.folder / ("annotations.jsonl" if which == "start" else f"annotations_{which}.jsonl")


def weights_in(folder: Path) -> Path:
    """The whole model that a stage left: merged, where it trained an adapter."""
    merged = folder / "merged"
    return merged if merged.is_dir() else folder

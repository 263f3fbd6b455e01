"""`prefgen pair RUN` without --out: what other settings would make of a run's judgments.

One pass over the stored tables. Each prompt's judgments are weighed once, and paired once under every
setting; a prompt and the sums of each row are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.console import Console
from pipelines.outcome import Pairing
from pipelines.stored import stored
from pipelines.what_if.config import GRID, WhatIfConfig
from pipelines.what_if.grid import Grid, Setting, command
from pipelines.what_if.sums import Moved, Tally
from prefgen.candidate import Candidate
from prefgen.judgment import JudgeResult
from prefgen.preference import Preference
from prefgen.prompt import Prompt
from prefgen.run import RunDirectory
from prefgen.sampling import Sampled
from prefgen.verdicts import Combine, Standing

_POOLED: tuple[Combine, ...] = ("mean", "median", "trimmed")


@dataclass(frozen=True, slots=True)
class Other:
    """Another way to weigh what was said: `without` a principle, or with judges combined in another way."""

    name: str
    pairing: Pairing
    without: str | None = None

    def standing(self, candidates: Sequence[Candidate], results: Sequence[JudgeResult]) -> Standing:
        heard = (
            item for item in results if self.without is None or item.provenance.principle != self.without
        )
        return self.pairing.standing(candidates, list(heard))


def what_if(config: WhatIfConfig, console: Console) -> dict[str, Any]:
    """`rows`: what each setting comes to; `weighings`: what is said of the pairs of the picked one where
    judgments are weighed in other ways. Nothing is written. Raises as `pipelines.pair.pair`."""
    run = RunDirectory.open(config.run)
    manifest = run.manifest
    grid = Grid(config, manifest, console)
    settings = grid.settings()
    others = _others(settings, manifest)
    tallies, moved = [Tally() for _ in settings], [Moved() for _ in others]
    with console.progress("prompts", manifest["counts"]["prompts"], lambda: "") as advance:
        for prompt, sampled, results in stored(run):
            picked = _add(settings, tallies, prompt, sampled, results)
            for other, sums in zip(others, moved, strict=True):
                sums.add(picked, other.standing(sampled.distinct, results), other.pairing.rule)
            advance()
    rows = [
        _row(config.run, item, tally, grid.calibrated) for item, tally in zip(settings, tallies, strict=True)
    ]
    told = [{"name": other.name, **asdict(sums)} for other, sums in zip(others, moved, strict=True)]
    return {"run": str(config.run), "calibrated": grid.calibrated, "rows": rows, "weighings": told}


def _add(
    settings: Sequence[Setting],
    tallies: Sequence[Tally],
    prompt: Prompt,
    sampled: Sampled,
    results: Sequence[JudgeResult],
) -> Sequence[Preference]:
    """Adds a prompt to each tally; returns its preferences under the picked setting."""
    picked: Sequence[Preference] = ()
    standing = None
    for item, tally in zip(settings, tallies, strict=True):
        if item.pairing is None:
            tally.prompts += 1
            continue
        # All settings weigh alike: they differ in their rules.
        standing = standing or item.pairing.standing(sampled.distinct, results)
        outcome = item.pairing.settled(prompt, sampled, results, standing)
        tally.add(outcome)
        if item.picked:
            picked = outcome.paired.preferences
    return picked


def _others(settings: Sequence[Setting], manifest: Mapping[str, Any]) -> list[Other]:
    pairing = next((item.pairing for item in settings if item.picked), None)
    # What a later judge of a cascade decided is not settled with the rest.
    if pairing is None or pairing.later:
        return []
    weighing, found = pairing.weighing, list[Other]()
    if len(weighing.principles) > 1:
        found += [Other(f"without {name}", pairing, name) for name in weighing.principles]
    if len(manifest["judged_by"]["judge"]) > 1 and weighing.combine in _POOLED:
        found += [
            Other(f"judges by {how}", replace(pairing, weighing=replace(weighing, combine=how)))
            for how in _POOLED
            if how != weighing.combine
        ]
    return found


def _row(run: Path, item: Setting, tally: Tally, calibrated: bool) -> dict[str, Any]:
    threshold = item.pairing.rule.min_confidence if item.pairing is not None else math.inf
    return {
        **{name: getattr(item.config, name) for name in GRID},
        "threshold": threshold if math.isfinite(threshold) else None,
        "own": item.own,
        "picked": item.picked,
        **tally.as_json(calibrated),
        "command": command(run, item.config),
    }

"""What a setting comes to, summed up prompt by prompt."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.outcome import Outcome
from prefgen.pairing import PairingRule
from prefgen.preference import Preference
from prefgen.verdicts import Standing


@dataclass(slots=True)
class Side:
    """Lengths in characters of one side of the pairs."""

    total: int = 0
    squares: int = 0

    def add(self, length: int) -> None:
        self.total += length
        self.squares += length * length

    def variance(self, n: int) -> float:
        return (self.squares - self.total**2 / n) / (n - 1)


@dataclass(slots=True)
class Tally:
    """All that one setting makes of a run."""

    prompts: int = 0
    with_pair: int = 0
    pairs: int = 0
    kto_rows: int = 0
    confidence: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    chosen: Side = field(default_factory=Side)
    rejected: Side = field(default_factory=Side)

    def add(self, outcome: Outcome) -> None:
        preferences = outcome.paired.preferences
        self.prompts += 1
        self.with_pair += bool(preferences)
        self.pairs += len(preferences)
        self.kto_rows += len(outcome.kto)
        self.dropped.update(outcome.paired.dropped)
        for preference in preferences:
            self.confidence += preference.confidence
            self.chosen.add(len(preference.chosen.text))
            self.rejected.add(len(preference.rejected.text))

    def as_json(self, calibrated: bool) -> dict[str, Any]:
        """None where nothing is known: of the precision without a calibration, of means without a pair.
        `length_gap`: mean of chosen less rejected, in characters."""
        n = self.pairs
        mean = self.confidence / n if n else None
        return {
            "pairs": n,
            "prompts_with_pair": self.with_pair,
            "yield": self.with_pair / self.prompts if self.prompts else None,
            "kto_rows": self.kto_rows,
            "length_gap": self._gap if n else None,
            "cohens_d": self._cohens_d() if n > 1 else None,
            "mean_confidence": mean,
            "expected_precision": mean if calibrated else None,
            "dropped": dict(self.dropped),
        }

    @property
    def _gap(self) -> float:
        return (self.chosen.total - self.rejected.total) / self.pairs

    def _cohens_d(self) -> float | None:
        """As `judges.effects.cohens_d`, whose arrays would not fit the memory for every setting."""
        variance = (self.chosen.variance(self.pairs) + self.rejected.variance(self.pairs)) / 2
        return self._gap / math.sqrt(variance) if variance > 1e-12 else None


@dataclass(slots=True)
class Moved:
    """What another weighing says of the same pairs: they are `clear`, `unclear` by the rule, `turned` (the
    rejected one is preferred), or `unknown`."""

    clear: int = 0
    unclear: int = 0
    turned: int = 0
    unknown: int = 0

    def add(self, preferences: Sequence[Preference], standing: Standing, rule: PairingRule) -> None:
        for pair in preferences:
            margin = standing.margin(pair.chosen.id, pair.rejected.id)
            if margin is None:
                self.unknown += 1
            elif margin < 0:
                self.turned += 1
            elif rule.confidence.probability(margin, pair.chosen, pair.rejected) >= rule.min_confidence:
                self.clear += 1
            else:
                self.unclear += 1

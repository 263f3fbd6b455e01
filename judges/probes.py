"""Variants of a response that say the same, and one that says less: what does a judge make of the form?

markdown    the same sentences as a list with bold beginnings, against the same as plain text
padding     every sentence said a second time ("repetitive list": Zheng et al. 2023, arXiv 2306.05685)
truncation  the first half only: a control, which ought to lose
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from judges.intervals import clopper_pearson

ProbeKind = Literal["markdown", "padding", "truncation"]
FEWEST_SENTENCES = 3
_MARKS = re.compile(r"^[^\S\n]*(?:#{1,6}\s+|[-*+•]\s+|\d{1,3}[.)]\s+|>\s?)", re.MULTILINE)
_BOLD = re.compile(r"(\*\*|__)(?=\S)((?:(?!\1).)+?)(?<=\S)\1", re.DOTALL)
_END = re.compile(r"(?<=[.!?。！？])\s+|\n+|(?<=[。！？])")
_BOLD_WORDS = 3


@dataclass(frozen=True, slots=True)
class Variant:
    """`original` and `changed` are what the judge compares."""

    kind: ProbeKind
    original: str
    changed: str


def variants(text: str) -> list[Variant]:
    """All variants of a response; none of one with fewer than three sentences, or with code or a table."""
    if "```" in text or re.search(r"^[^\S\n]*\|", text, re.MULTILINE):
        return []
    lines = sentences(text)
    if len(lines) < FEWEST_SENTENCES:
        return []
    plain = " ".join(lines)
    half = " ".join(lines[: len(lines) // 2])
    return [
        Variant("markdown", plain, "\n".join(f"- {_emphasised(line)}" for line in lines)),
        Variant("padding", plain, f"{plain}\n\nTo say it once more: {plain}"),
        Variant("truncation", plain, half),
    ]


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text without their markdown."""
    bare = _BOLD.sub(r"\2", _MARKS.sub("", text))
    return [part.strip() for part in _END.split(bare) if part and part.strip()]


def _emphasised(sentence: str) -> str:
    start = " ".join(sentence.split()[:_BOLD_WORDS])
    return f"**{start}**{sentence[len(start) :]}" if sentence.startswith(start) else f"**{sentence}**"


@dataclass(frozen=True, slots=True)
class Probed:
    """Of `n` decided comparisons the judge preferred the variant in `preferred`; `ties` and `failed` are
    not among them. `share` with its exact 95% interval; None where nothing was decided."""

    n: int
    preferred: int
    ties: int
    failed: int

    @property
    def share(self) -> float | None:
        return self.preferred / self.n if self.n else None

    @property
    def ci(self) -> tuple[float, float]:
        return clopper_pearson(self.preferred, self.n)


def probed(margins: Mapping[ProbeKind, Sequence[float | None]]) -> dict[ProbeKind, Probed]:
    """Counts by kind. `margins`: log-odds that the variant beats the original, None for a failure."""
    return {kind: _count(told) for kind, told in margins.items()}


def _count(told: Sequence[float | None]) -> Probed:
    decided = [margin for margin in told if margin]
    return Probed(len(decided), sum(margin > 0 for margin in decided), told.count(0.0), told.count(None))

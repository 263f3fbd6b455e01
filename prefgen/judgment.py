"""What a judge said, or that it said nothing usable.

A judgment is about candidates by id. `b_id` is None where one response was scored on its own;
`log_odds` is then the log-odds (or reward) of that response alone, and only differences mean anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from prefgen.comparison import Order

Verdict = Literal["a", "b", "tie"]
FailureStatus = Literal["parse_failure", "refusal", "truncated", "api_error", "timeout"]
FAILURES: tuple[str, ...] = get_args(FailureStatus)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who judged, by which text, with which parameters. Hashes are of content."""

    judge: str
    served: str
    template: str
    constitution: str | None = None
    principle: str | None = None
    order: Order | None = None
    ledger_key: str | None = None
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Judgment:
    """A judge spoke. `log_odds`: natural log of P(a beats b) / P(b beats a); finite."""

    prompt_id: str
    a_id: str
    b_id: str | None
    log_odds: float
    provenance: Provenance
    raw: str = ""
    coverage: float | None = None
    cost_usd: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.log_odds):
            raise ValueError(f"log-odds must be finite, not {self.log_odds}")

    @property
    def verdict(self) -> Verdict:
        return "a" if self.log_odds > 0 else "b" if self.log_odds < 0 else "tie"

    @property
    def p_a(self) -> float:
        return sigmoid(self.log_odds)

    def swap(self) -> Judgment:
        """The same judgment told of (b, a): ids exchanged, sign turned."""
        if self.b_id is None:
            raise ValueError("a judgment of a single response has no sides to exchange")
        order: Order | None = {"ab": "ba", "ba": "ab", None: None}[self.provenance.order]
        return replace(
            self,
            a_id=self.b_id,
            b_id=self.a_id,
            log_odds=-self.log_odds,
            provenance=replace(self.provenance, order=order),
        )


@dataclass(frozen=True, slots=True)
class JudgeFailure:
    """A judge did not speak: kept with its raw text, never averaged, never a tie, owed on resume."""

    prompt_id: str
    a_id: str
    b_id: str | None
    status: FailureStatus
    provenance: Provenance
    raw: str = ""
    cost_usd: float | None = None


JudgeResult: TypeAlias = Judgment | JudgeFailure


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def logit(p: float) -> float:
    """log(p / (1 - p)) for 0 < p < 1."""
    return math.log(p) - math.log1p(-p)

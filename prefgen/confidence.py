"""How sure a label is: from a margin to the probability that a human would agree."""

from __future__ import annotations

from typing import Protocol

from prefgen.candidate import Candidate
from prefgen.judgment import sigmoid


class Confidence(Protocol):
    """`probability`: that a human prefers `better`, given the judge's log-odds for it over `worse`."""

    def probability(self, margin: float, better: Candidate, worse: Candidate) -> float: ...


class Uncalibrated:
    """The judge's own certainty, taken at its word."""

    def probability(self, margin: float, better: Candidate, worse: Candidate) -> float:
        return sigmoid(margin)


UNCALIBRATED = Uncalibrated()

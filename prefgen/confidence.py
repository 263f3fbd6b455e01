"""How sure a label is: from a margin to the probability that a human would agree."""

from __future__ import annotations

from typing import Protocol

from prefgen.candidate import Candidate
from prefgen.judgment import logit, sigmoid


class Confidence(Protocol):
    """`probability`: that a human prefers `better`, given the judge's log-odds for it over `worse`.
    `margin_at`: the log-odds at which the probability of two plain responses is reached; inf if never."""

    def probability(self, margin: float, better: Candidate, worse: Candidate) -> float: ...

    def margin_at(self, probability: float) -> float: ...


class Uncalibrated:
    """The judge's own certainty, taken at its word."""

    def probability(self, margin: float, better: Candidate, worse: Candidate) -> float:
        return sigmoid(margin)

    def margin_at(self, probability: float) -> float:
        return logit(probability)


UNCALIBRATED = Uncalibrated()

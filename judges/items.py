"""An item of a calibration: a pair, what people said of it, and what the judge said of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from judges.agreement import Votes
from prefgen.comparison import Order
from prefgen.judgment import Verdict
from prefgen.labels import LabelledPair, Pair
from prefgen.messages import messages_hash
from prefgen.verdict_file import RecordedVerdict

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Item:
    """`verdicts`: all the judge's, failures included. `human`: the annotators' majority."""

    pair: Pair
    votes: Votes
    human: Verdict
    verdicts: tuple[RecordedVerdict, ...]

    @property
    def cluster(self) -> str:
        """The prompt: items of one prompt are alike, and are resampled together."""
        return messages_hash(self.pair.prompt.messages)

    @property
    def margin(self) -> float | None:
        """Mean over usable verdicts of the log-odds that a is better (±1 for a bare verdict); None: no
        verdict is usable."""
        return _mean(self.verdicts)

    @property
    def verdict(self) -> Verdict | None:
        return None if self.margin is None else side(self.margin)

    @property
    def stated(self) -> bool:
        """Whether every usable verdict came with a probability."""
        return all(verdict.log_odds is not None for verdict in self.verdicts if verdict.verdict is not None)

    def shown(self, order: Order) -> float | None:
        """The margin over the verdicts given in one order."""
        return _mean([verdict for verdict in self.verdicts if verdict.order == order])

    @property
    def principles(self) -> dict[str, float]:
        """The mean log-odds by principle, for principles every usable verdict tells of."""
        usable = [verdict.principles for verdict in self.verdicts if verdict.verdict is not None]
        names = set.intersection(*map(set, usable)) if usable else set()
        return {name: fmean(told[name] for told in usable) for name in sorted(names)}


def side(margin: float) -> Verdict:
    """Whom a margin favours; less than rounding is a tie."""
    return "tie" if abs(margin) < _ROUNDING else "a" if margin > 0 else "b"


def collect(labelled: Sequence[LabelledPair], verdicts: Iterable[RecordedVerdict]) -> list[Item]:
    """Items in the order of the labels; verdicts on other ids are left out."""
    by_id: dict[str, list[RecordedVerdict]] = {}
    for verdict in verdicts:
        by_id.setdefault(verdict.id, []).append(verdict)
    return [
        Item(
            told.pair,
            tuple(zip(told.annotators, told.labels, strict=True)),
            told.majority,
            tuple(by_id.get(told.pair.id, ())),
        )
        for told in labelled
    ]


def _mean(verdicts: Sequence[RecordedVerdict]) -> float | None:
    values = [verdict.value for verdict in verdicts if verdict.value is not None]
    return fmean(values) if values else None

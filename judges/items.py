"""An item of a calibration: a pair, what people said of it, and what the judge said of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from judges.agreement import Votes
from prefgen.comparison import Order
from prefgen.judgment import Verdict
from prefgen.labels import LabelledPair, Pair
from prefgen.messages import content_hash, messages_hash
from prefgen.verdict_file import RecordedVerdict
from prefgen.verdicts import Combine, Weighing

FEWEST_PROMPTS = 20
"""Of fewer prompts nothing can be said beyond them: then each pair is a cluster, intervals are about these
prompts alone, and no precision is promised."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Item:
    """`verdicts`: all the judge's, failures included. `human`: the annotators' majority. `margin`: what the
    usable verdicts come to, the log-odds that a is better (±1 for a bare verdict); None: none is usable.
    `cluster`: items of one cluster are alike, and are resampled together."""

    pair: Pair
    votes: Votes
    human: Verdict
    verdicts: tuple[RecordedVerdict, ...]
    margin: float | None
    cluster: str

    @property
    def prompt(self) -> str:
        return messages_hash(self.pair.prompt.messages)

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
    def judges(self) -> dict[str, float]:
        """The margin by each judge that gave a usable verdict."""
        return by_judge(self.verdicts)

    def by(self, judge: str) -> Item:
        """The same item as one judge alone sees it."""
        return self.with_margin(self.judges[judge])

    def with_margin(self, margin: float) -> Item:
        return replace(self, margin=margin)

    @property
    def principles(self) -> dict[str, float]:
        """The mean log-odds by principle, for principles every usable verdict tells of."""
        usable = [verdict.principles for verdict in self.verdicts if verdict.verdict is not None]
        names = set.intersection(*map(set, usable)) if usable else set()
        return {name: fmean(told[name] for told in usable) for name in sorted(names)}


def side(margin: float) -> Verdict:
    """Whom a margin favours; less than rounding is a tie."""
    return "tie" if abs(margin) < _ROUNDING else "a" if margin > 0 else "b"


def collect(
    labelled: Sequence[LabelledPair], verdicts: Iterable[RecordedVerdict], combine: Combine = "mean"
) -> list[Item]:
    """Items in the order of the labels; verdicts on other ids are left out.

    A cluster is a prompt. Usable verdicts are averaged. Where several judges are combined in another way,
    each one's mean is taken first, and one without a usable verdict leaves the item without a margin; until
    weights are fitted all count alike.
    """
    by_id: dict[str, list[RecordedVerdict]] = {}
    for verdict in verdicts:
        by_id.setdefault(verdict.id, []).append(verdict)
    judges = {verdict.judge for told in by_id.values() for verdict in told}
    items = [_item(told, tuple(by_id.get(told.pair.id, ())), combine, len(judges)) for told in labelled]
    if len({item.prompt for item in items}) < FEWEST_PROMPTS:
        return items
    return [replace(item, cluster=item.prompt) for item in items]


def one_a_prompt(items: Sequence[Item]) -> list[bool]:
    """Which items to look at where they must be independent: one of each prompt, drawn by its id."""
    first: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: content_hash(item.pair.id)):
        first.setdefault(item.prompt, item)
    kept = {item.pair.id for item in first.values()}
    return [item.pair.id in kept for item in items]


def by_judge(verdicts: Iterable[RecordedVerdict]) -> dict[str, float]:
    """The mean of each judge's usable verdicts, by its name."""
    said: dict[str, list[RecordedVerdict]] = {}
    for verdict in verdicts:
        said.setdefault(verdict.judge or "", []).append(verdict)
    means = {name: _mean(told) for name, told in said.items()}
    return {name: mean for name, mean in means.items() if mean is not None}


def _item(told: LabelledPair, verdicts: tuple[RecordedVerdict, ...], combine: Combine, judges: int) -> Item:
    votes = tuple(zip(told.annotators, told.labels, strict=True))
    if combine != "mean":
        each = by_judge(verdicts)
        whole = len(each) == judges > 0
        margin = Weighing(combine="mean" if combine == "stacked" else combine).pool(each) if whole else None
    else:
        margin = _mean(verdicts)
    return Item(told.pair, votes, told.majority, verdicts, margin, told.pair.id)


def _mean(verdicts: Sequence[RecordedVerdict]) -> float | None:
    values = [verdict.value for verdict in verdicts if verdict.value is not None]
    return fmean(values) if values else None

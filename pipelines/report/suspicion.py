"""Kept pairs that look wrong, with why; what is cheap to see while a run is read."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from pipelines.markup import many, percent, signed
from pipelines.report.examples import Example
from pipelines.report.views import Margins
from prefgen.judgment import JudgeResult, Judgment
from prefgen.refusal import is_refusal

KINDS = {
    "orders": "the two orders gave opposite verdicts",
    "principles": "a principle clearly prefers the rejected response",
    "judges": "one of the judges prefers the rejected response",
    "refusal": "the chosen response reads like a refusal",
    "repeated": "the chosen response is, word for word, that of other prompts too",
    "length": "the chosen response is much longer, and the judge not very sure",
    "audit": "an audit’s model of words and form would have called the other one chosen",
}
"""Most telling first."""
CLEAR = 1.1
"""Log-odds: 3 to 1."""
_LONGER, _MORE = 2, 200
_SHOWN = 2


@dataclass(slots=True)
class Suspicions:
    """`counts`: kept pairs by kind; a pair may be of several. `worst`: the worst of each kind. `_answers`:
    by hash of a chosen text its prompts, and its pairs in the first; the one thing here that grows, by some
    100 bytes a prompt."""

    counts: Counter[str] = field(default_factory=Counter)
    worst: dict[str, list[tuple[float, Example]]] = field(default_factory=dict)
    _answers: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(
        self,
        pairs: Iterable[Example],
        results: Iterable[JudgeResult],
        by_principle: Mapping[str, Margins],
        by_judge: Mapping[str, Margins],
        threshold: float,
    ) -> None:
        """The kept pairs of one prompt and what was said there."""
        shown, by_answer = _as_shown(results), defaultdict[int, list[Example]](list)
        for pair in pairs:
            self._keep("orders", pair, _orders(pair, shown))
            self._keep("principles", pair, _against(pair, by_principle, "the principle", CLEAR))
            self._keep("judges", pair, _against(pair, by_judge, "the judge", 0.0))
            if is_refusal(pair.chosen):
                self._keep("refusal", pair, (-float(len(pair.chosen)), "it begins like a refusal"))
            self._keep("length", pair, _longer(pair, threshold))
            by_answer[hash(" ".join(pair.chosen.split()))].append(pair)
        for answer, same in by_answer.items():
            self._repeat(answer, same)

    def _keep(self, kind: str, pair: Example, found: tuple[float, str] | None) -> None:
        if found is not None:
            self.counts[kind] += 1
            self._show(kind, found[0], replace(pair, note=found[1]))

    def _show(self, kind: str, how_bad: float, pair: Example) -> None:
        """Among the worst of a kind no answer stands twice."""
        by_answer: dict[str, tuple[float, Example]] = {}
        for item in sorted([*self.worst.get(kind, []), (how_bad, pair)], key=lambda item: -item[0]):
            by_answer.setdefault(item[1].chosen, item)
        self.worst[kind] = list(by_answer.values())[:_SHOWN]

    def _repeat(self, answer: int, pairs: Sequence[Example]) -> None:
        """`pairs`: those of one prompt with this answer. Of the first prompt they count with the next's."""
        times, waiting = self._answers.get(answer, (0, len(pairs)))
        self._answers[answer] = (times + 1, 0 if times else waiting)
        if times:
            self.counts["repeated"] += len(pairs) + waiting
            note = f"it was chosen, word for word, for at least {many(times + 1, 'prompt')}"
            self._show("repeated", times + 1, replace(pairs[0], note=note))

    def add_audit(self, run: Path) -> None:
        """What an audit of the run flagged, where there was one."""
        path = run / "audit" / "suspicious.jsonl"
        if not path.is_file():
            return
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                names = ("prompt_id", "prompt", "chosen", "rejected", "margin", "confidence")
                pair = Example(chosen_id="", rejected_id="", **{name: row[name] for name in names})
                right = row["probability"]
                self._keep("audit", pair, (-right, f"right with a probability of {percent(right)} only"))

    @property
    def groups(self) -> Iterator[tuple[str, list[Example]]]:
        """(kind, the worst pairs), no pair twice."""
        shown: set[tuple[str, str, str]] = set()
        for kind in KINDS:
            items = [item for _, item in self.worst.get(kind, [])]
            new = [item for item in items if (item.prompt_id, item.chosen, item.rejected) not in shown]
            shown |= {(item.prompt_id, item.chosen, item.rejected) for item in new}
            if new:
                yield kind, new


def _as_shown(results: Iterable[JudgeResult]) -> dict[tuple[str, str], list[float]]:
    """Log-odds of the response shown first, by (shown first, shown second)."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for item in results:
        if isinstance(item, Judgment) and item.b_id is not None:
            if item.provenance.order == "ab":
                found[item.a_id, item.b_id].append(item.log_odds)
            elif item.provenance.order == "ba":
                found[item.b_id, item.a_id].append(-item.log_odds)
    return found


def _orders(pair: Example, shown: Mapping[tuple[str, str], list[float]]) -> tuple[float, str] | None:
    """Opposite verdicts of the two orders, each the mean over all that were asked so."""
    ways = shown.get((pair.chosen_id, pair.rejected_id)), shown.get((pair.rejected_id, pair.chosen_id))
    if ways[0] is None or ways[1] is None:
        return None
    first, second = fmean(ways[0]), -fmean(ways[1])
    if first * second >= 0:
        return None
    words = f"log-odds {signed(first)} when the chosen one was shown first, {signed(second)} when second"
    return min(abs(first), abs(second)), words


def _against(
    pair: Example, views: Mapping[str, Margins], what: str, least: float
) -> tuple[float, str] | None:
    """The view that is most against the label, where it is so by more than `least`."""
    a, b = pair.chosen_id, pair.rejected_id
    told = {
        name: margins[a, b] if (a, b) in margins else -margins[b, a]
        for name, margins in views.items()
        if (a, b) in margins or (b, a) in margins
    }
    if len(told) < 2:
        return None
    name, margin = min(told.items(), key=lambda item: item[1])
    if margin >= -least:
        return None
    return -margin, f"{what} “{name}” is for the rejected one, by log-odds of {signed(-margin)}"


def _longer(pair: Example, threshold: float) -> tuple[float, str] | None:
    chosen, rejected = len(pair.chosen), len(pair.rejected)
    if chosen < _LONGER * rejected or chosen - rejected < _MORE or pair.confidence >= (1 + threshold) / 2:
        return None
    return chosen / max(1, rejected), f"{chosen:,} characters against {rejected:,}"

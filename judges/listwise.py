"""The listwise judge: all candidates of a prompt in one call, ranked; several calls in other orders.

Each ranking is one vote for every pair of candidates; a pair's log-odds are Jeffreys' over its votes, a tie
half to each. Averaging over permutations cancels the liking for a place in the list (arXiv 2603.20562).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_uppercase
from typing import Literal

from judges.asking import Answer, Asking, Question, ask, wordings
from judges.constitution import Constitution
from judges.evidence import Evidence, Unreadable, after_last, jeffreys, read_field, readable
from judges.judge import gather, provenance_of
from judges.prompting import fenced, shipped
from prefgen.candidate import Candidate
from prefgen.completion import Completion
from prefgen.errors import UsageError
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment
from prefgen.messages import content_hash
from prefgen.prompt import Prompt
from prefgen.recorded import RecordedModel
from prefgen.verdicts import ALIKE

MOST = len(ascii_uppercase)
Places = tuple[int, ...]
"""The place of each response in the order shown: 0 for the best, the same for those that are tied."""

_BODY, _RESPONSE = shipped("listwise"), shipped("listwise_response")
_WORDINGS = wordings("listwise", ("score", "votes"))
_RANKING = re.compile(r"[\s*_`\"']*([A-Z](?:[^\S\n]*[>=][^\S\n]*[A-Z])*)[^\w\n<>=]*(?:\n|$)")


def permutations(candidates: Sequence[Candidate], count: int, seed: int) -> list[tuple[Candidate, ...]]:
    """Orders to show the candidates in: at most `count`, all different, balanced over places.

    A random order of the ids is shifted round evenly, and each shift is followed by its reverse: then each
    pair is shown in both orders equally often and nobody's mean place differs (for even `count`). The same
    for the same candidates in whatever order they come.
    """
    order = sorted(candidates, key=lambda item: item.id)
    random.Random(content_hash([seed, *(item.id for item in order)])).shuffle(order)
    turns = (count + 1) // 2
    shown: list[tuple[Candidate, ...]] = []
    for turn in range(turns):
        start = turn * len(order) // turns
        shifted = (*order[start:], *order[:start])
        shown += [shifted, shifted[::-1]]
    return list(dict.fromkeys(shown))[:count]


def read_ranking(text: str, count: int) -> Places | None:
    """The places of the first `count` letters in a ranking such as `B > A = C`; None unless the text is
    one ranking that holds each letter exactly once."""
    found = _RANKING.match(text)
    tiers = [re.findall(r"[A-Z]", tier) for tier in found[1].split(">")] if found else []
    place = {letter: index for index, tier in enumerate(tiers) for letter in tier}
    letters = ascii_uppercase[:count]
    if sorted(letter for tier in tiers for letter in tier) != list(letters):
        return None
    return tuple(place[letter] for letter in letters)


@dataclass(frozen=True, slots=True)
class RankingForm:
    """The answer is a ranking of `count` letters, in the JSON object or on the line that ends the reply."""

    count: int
    words: tuple[str, ...] = ()
    field: str = "ranking"
    type: Literal["string"] = "string"

    def read(self, evidence: Evidence, completions: Sequence[Completion]) -> Places | Unreadable:
        told = (
            after_last("ranking", completions[0])
            if evidence == "votes"
            else read_field(completions[0], self.field)
        )
        if isinstance(told, Unreadable):
            return told
        places = read_ranking(told, self.count) if isinstance(told, str) else None
        return Unreadable("parse_failure") if places is None else places


class ListwiseJudge:
    """A judgment for each pair of candidates, from `permutations` rankings of all of them.

    A ranking that fails is left out and stays in the pairs' `raw`; where not more than half could be read,
    every pair is a failure. Each pair carries its share of the cost.
    """

    def __init__(
        self, model: RecordedModel, constitution: Constitution, asking: Asking, *, permutations: int = 4
    ) -> None:
        # One greedy ranking for each order shown: the votes are the permutations.
        self._model, self._constitution, self._asking = model, constitution, replace(asking, votes=1)
        self._permutations = permutations
        self.name = model.spec
        self.weighing = ALIKE

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        """Raises UsageError for more than 26 candidates."""
        if len(candidates) > MOST:
            raise UsageError(f"{len(candidates)} candidates of one prompt: a list has letters for {MOST}")
        shown = permutations(candidates, self._permutations, self._asking.seed)
        questions = [self._question(prompt, order, len(shown)) for order in shown]
        answers = await gather(ask(self._model, question, self._asking) for question in questions)
        return list(self._results(prompt, candidates, shown, answers))

    def _question(self, prompt: Prompt, shown: Sequence[Candidate], beside: int) -> Question[Places]:
        labelled = dict(zip(ascii_uppercase, (item.text for item in shown), strict=False))
        values = fenced(prompt, self._asking.reference, **labelled)
        blocks = (
            _RESPONSE.fill({"label": label, "fence": values["fence"], "text": text})
            for label, text in labelled.items()
        )
        values |= {"principles": self._constitution.as_list(), "responses": "\n\n".join(blocks)}
        return Question(_BODY, values, _WORDINGS, RankingForm(len(shown)), beside)

    def _results(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        shown: Sequence[Sequence[Candidate]],
        answers: Sequence[Answer[Places]],
    ) -> Iterator[JudgeResult]:
        rankings = readable([_by_id(order, answer) for order, answer in zip(shown, answers, strict=True)])
        first = next((item for item in answers if not isinstance(item.result, Unreadable)), answers[0])
        provenance = replace(provenance_of(first, self.name, self._constitution), evidence="votes")
        raw = _raw(shown, answers)
        pairs = list(combinations(candidates, 2))
        costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
        cost = sum(costs) / len(pairs) if len(costs) == len(answers) else None
        for a, b in pairs:
            if isinstance(rankings, Unreadable):
                yield JudgeFailure(prompt.id, a.id, b.id, rankings.status, provenance, raw, cost)
                continue
            wins = sum(_vote(places[a.id], places[b.id]) for places in rankings)
            odds = jeffreys(wins, len(rankings))
            yield Judgment(prompt.id, a.id, b.id, odds, provenance, raw, cost_usd=cost)


def _by_id(shown: Sequence[Candidate], answer: Answer[Places]) -> dict[str, int] | Unreadable:
    if isinstance(answer.result, Unreadable):
        return answer.result
    return dict(zip((item.id for item in shown), answer.result, strict=True))


def _vote(a: int, b: int) -> float:
    return 0.5 if a == b else float(a < b)


def _raw(shown: Sequence[Sequence[Candidate]], answers: Sequence[Answer[Places]]) -> str:
    """Each ranking as it was written, with whom its letters stood for."""
    rankings = [
        {
            "shown": [item.id for item in order],
            "status": answer.result.status if isinstance(answer.result, Unreadable) else "ok",
            "reply": answer.raw,
        }
        for order, answer in zip(shown, answers, strict=True)
    ]
    return json.dumps(rankings, ensure_ascii=False)

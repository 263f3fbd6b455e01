"""The pairwise judge: what it shows, in which order, under which principles, and how failures are kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from making import PROMPT, candidate, recorded

from judges.asking import Asking
from judges.constitution import SHIPPED, Constitution, Principle, load_constitution
from judges.pairwise import PairwiseJudge, PrincipleMode
from judges.pointwise import PointwiseJudge
from judges.ranking import Meetings
from judges.reward_model import RewardJudge
from prefgen.candidate import Candidate
from prefgen.completion import EVERY_DRAW, Completion, CompletionRequest
from prefgen.errors import DeadlineError, RequestRefusedError
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment
from prefgen.ledger import Ledger
from prefgen.messages import Messages
from prefgen.models.scripted import ScriptedModel
from prefgen.pairing import PairingRule, pair_up
from prefgen.recorded import RecordedRewardModel
from prefgen.verdicts import settle

RULES = Constitution(
    id="x",
    principles=(Principle(id="clear", text="Be clear.", weight=3), Principle(id="kind", text="Be kind.")),
)
THREE = [candidate("alpha", 0), candidate("beta", 1), candidate("gamma", 2)]


def shown(request: CompletionRequest) -> tuple[str, str]:
    text = request.messages[0].content
    return tuple(text.partition(f"<response_{side}-")[2].split("\n")[1] for side in "AB")  # type: ignore[return-value]


def alphabetical(request: CompletionRequest, sample: int) -> Completion:
    """Prefers what comes first in the alphabet by 2, and what is shown first by 1."""
    first, second = shown(request)
    odds = (2 if first < second else -2) + 1
    a, b = -math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))
    return Completion("A", label_logprobs={"A": a, "B": b})


async def judged(
    tmp_path: Path, model: ScriptedModel, mode: PrincipleMode = "all", both: bool = True
) -> list[JudgeResult]:
    with recorded(model, tmp_path / "l") as behind:
        judge = PairwiseJudge(behind, RULES, Asking(), principles=mode, both_orders=both)
        return await judge.judge(PROMPT, THREE)


async def test_every_pair_in_both_orders_with_the_slot_taken_out(tmp_path: Path) -> None:
    model = ScriptedModel(alphabetical)
    results = await judged(tmp_path, model)
    assert Counter(shown(request) for request in model.calls) == Counter(
        {(x.text, y.text): 1 for x in THREE for y in THREE if x != y}
    )
    standing = settle([item.id for item in THREE], results)
    assert standing.margin(THREE[0].id, THREE[2].id) == pytest.approx(2.0)
    assert standing.margin(THREE[2].id, THREE[1].id) == pytest.approx(-2.0)
    by_order = {item.provenance.order: item.log_odds for item in results if isinstance(item, Judgment)}
    assert by_order == {"ab": pytest.approx(3.0), "ba": pytest.approx(1.0)}


async def test_a_question_says_what_others_begin_with(tmp_path: Path) -> None:
    """The rules for all of a run, then the request for the six questions about it."""
    model = ScriptedModel(alphabetical)
    await judged(tmp_path, model)
    for request in model.calls:
        text = request.messages[0].content
        run, prompt, _ = (text[: mark.end] for mark in request.shared)
        assert [mark.draws for mark in request.shared][:2] == [EVERY_DRAW, 6]
        assert "Be kind." in run
        assert PROMPT.text not in run
        assert PROMPT.text in prompt
        assert text.removeprefix(prompt).startswith(f"{shown(request)[0]}\n</response_A-")
    assert len({request.messages[0].content[: request.shared[1].end] for request in model.calls}) == 1


async def test_a_question_about_a_principle_shares_the_response_with_the_others(tmp_path: Path) -> None:
    model = ScriptedModel(lambda request, sample: Completion("yes", label_logprobs={"yes": -0.1, "no": -2}))
    with recorded(model, tmp_path / "l") as behind:
        await PointwiseJudge(behind, RULES, Asking()).judge(PROMPT, THREE)
    marks = {tuple(mark.draws for mark in request.shared) for request in model.calls}
    assert marks == {(EVERY_DRAW, 3, 2)}
    ends = {request.messages[0].content[: request.shared[2].end] for request in model.calls}
    assert len(ends) == 3
    assert all(text.endswith("Principle: ") for text in ends)


@pytest.mark.parametrize(("mode", "calls"), [("all", 6), ("sample", 6), ("each", 12)])
async def test_principles(tmp_path: Path, mode: PrincipleMode, calls: int) -> None:
    model = ScriptedModel(alphabetical)
    results = await judged(tmp_path, model, mode)
    assert len(results) == len(model.calls) == calls
    named = [result.provenance.principle for result in results]
    assert (set(named) == {None}) == (mode == "all")
    for request, result in zip(model.calls, results, strict=True):
        text = request.messages[0].content
        for principle in RULES.principles:
            expected = result.provenance.principle in (None, principle.id)
            assert (principle.text in text) == expected


async def test_a_sampled_principle_is_one_for_both_orders(tmp_path: Path) -> None:
    results = await judged(tmp_path, ScriptedModel(alphabetical), "sample")
    by_pair: dict[tuple[str, str | None], set[str | None]] = {}
    for result in results:
        by_pair.setdefault((result.a_id, result.b_id), set()).add(result.provenance.principle)
    assert all(len(principles) == 1 for principles in by_pair.values())


async def test_one_order(tmp_path: Path) -> None:
    model = ScriptedModel(alphabetical)
    await judged(tmp_path, model, both=False)
    assert len(model.calls) == 3


SIX = [candidate(text, n) for n, text in enumerate(["delta", "alpha", "zeta", "gamma", "epsilon", "beta"])]


def by_first_letter(request: CompletionRequest, sample: int) -> Completion:
    """A letter earlier in the alphabet is worth 1, capped at 5, and the first slot half as much."""
    first, second = shown(request)
    odds = max(-5, min(5, ord(second[0]) - ord(first[0]))) + 0.5
    a, b = -math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))
    return Completion("A", label_logprobs={"A": a, "B": b})


async def met(
    tmp_path: Path,
    model: ScriptedModel,
    meetings: Meetings,
    seed: int = 0,
    candidates: Sequence[Candidate] = SIX,
) -> list[JudgeResult]:
    with recorded(model, tmp_path / "l") as behind:
        judge = PairwiseJudge(behind, RULES, Asking(seed=seed), meetings=meetings)
        return await judge.judge(PROMPT, candidates)


@pytest.mark.parametrize(("meetings", "calls"), [("ring", 6), ("swiss", 9), ("knockout", 7)])
async def test_cheap_meetings_end_with_best_against_worst_in_both_orders(
    tmp_path: Path, meetings: Meetings, calls: int
) -> None:
    model = ScriptedModel(by_first_letter)
    results = await met(tmp_path, model, meetings)
    assert calls < len(results) == len(model.calls) <= calls + 4
    standing = settle([item.id for item in SIX], results)
    (pair,) = pair_up(PROMPT, SIX, standing, PairingRule()).preferences
    assert (pair.chosen.text, pair.rejected.text) == ("alpha", "zeta")
    assert pair.margin == pytest.approx(5.0)
    asked = Counter(shown(request) for request in model.calls)
    assert asked["alpha", "zeta"] == asked["zeta", "alpha"] == 1
    assert max(asked.values()) == 1


async def test_a_judgment_names_its_order_by_the_list_of_candidates(tmp_path: Path) -> None:
    model = ScriptedModel(by_first_letter)
    results = await met(tmp_path, model, "ring")
    texts, place = {item.id: item.text for item in SIX}, {item.id: n for n, item in enumerate(SIX)}
    for request, result in zip(model.calls, results, strict=True):
        assert place[result.a_id] < place[result.b_id or ""]
        first, second = (result.a_id, result.b_id or "")[:: 1 if result.provenance.order == "ab" else -1]
        assert shown(request) == (texts[first], texts[second])


async def test_the_same_meetings_whenever_asked_and_others_by_another_seed(tmp_path: Path) -> None:
    model = ScriptedModel(by_first_letter)
    first = await met(tmp_path, model, "knockout")
    asked = len(model.calls)
    assert await met(tmp_path, model, "knockout", candidates=SIX[::-1]) != first  # Told the other way round,
    assert len(model.calls) == asked  # but every answer was in the ledger.
    await met(tmp_path, model, "knockout", seed=1)
    assert len(model.calls) > asked


async def test_two_candidates_meet_in_both_orders_however_they_meet(tmp_path: Path) -> None:
    for meetings in get_args(Meetings):
        results = await met(tmp_path, ScriptedModel(by_first_letter), meetings, candidates=SIX[:2])
        assert {item.provenance.order for item in results} == {"ab", "ba"}


async def test_principles_of_their_own_are_all_asked_of_every_match(tmp_path: Path) -> None:
    with recorded(ScriptedModel(by_first_letter), tmp_path / "l") as behind:
        judge = PairwiseJudge(behind, RULES, Asking(), principles="each", meetings="ring")
        results = await judge.judge(PROMPT, SIX)
    asked = Counter((item.a_id, item.b_id, item.provenance.order) for item in results)
    assert set(asked.values()) == {2}


async def test_a_failed_match_does_not_stop_the_meetings(tmp_path: Path) -> None:
    def answer(request: CompletionRequest, sample: int) -> Completion | Exception:
        return RequestRefusedError("no") if "delta" in shown(request) else by_first_letter(request, sample)

    results = await met(tmp_path, ScriptedModel(answer), "knockout")
    standing = settle([item.id for item in SIX], results)
    (pair,) = pair_up(PROMPT, SIX, standing, PairingRule()).preferences
    assert any(isinstance(item, JudgeFailure) for item in results)
    assert (pair.chosen.text, pair.rejected.text) == ("alpha", "zeta")


@pytest.mark.parametrize(
    ("error", "status"), [(RequestRefusedError("400: no"), "api_error"), (DeadlineError("late"), "timeout")]
)
async def test_a_failed_call_is_a_result(tmp_path: Path, error: Exception, status: str) -> None:
    results = await judged(tmp_path, ScriptedModel(lambda request, sample: error))
    assert {(result.status, result.raw) for result in results if isinstance(result, JudgeFailure)} == {
        (status, str(error))
    }
    assert len(results) == 6


async def test_provenance_names_everything_that_decided(tmp_path: Path) -> None:
    (first, *_) = await judged(tmp_path, ScriptedModel(alphabetical))
    found = first.provenance
    assert (found.judge, found.served, found.constitution) == ("scripted/test", "scripted/test", RULES.hash)
    assert found.evidence == "logprobs"
    assert len(found.template) == 16
    assert len(found.ledger_key or "") == 64


def test_weights_are_shares() -> None:
    assert RULES.weights == {"clear": 0.75, "kind": 0.25}
    assert RULES.as_list() == "1. Be clear.\n2. Be kind."


def test_the_hash_follows_what_decides_and_not_the_title() -> None:
    assert RULES.model_copy(update={"title": "new"}).hash == RULES.hash
    other = Constitution(id="x", principles=(RULES.principles[0],))
    assert other.hash != RULES.hash


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_constitutions(name: str) -> None:
    found = load_constitution(name)
    assert found.id == name
    assert sum(found.weights.values()) == pytest.approx(1)


async def test_pointwise_asks_each_principle_of_each_response(tmp_path: Path) -> None:
    """P(yes) .8 for clear and .5 for kind: .75 log 4 + .25 * 0."""

    def answer(request: CompletionRequest, sample: int) -> Completion:
        yes = 0.8 if "Be clear." in request.messages[0].content else 0.5
        return Completion("yes", label_logprobs={"yes": math.log(yes), "no": math.log(1 - yes)})

    with recorded(ScriptedModel(answer), tmp_path / "l") as behind:
        judge = PointwiseJudge(behind, RULES, Asking())
        results = await judge.judge(PROMPT, THREE)
    assert len(results) == 6
    scores = settle([item.id for item in THREE], results, judge.weighing).scores
    assert list(scores.values()) == pytest.approx([0.75 * math.log(4)] * 3)


class Rewards:
    spec = identity = "vllm/reward"

    def __init__(self, scores: dict[str, float | Exception]) -> None:
        self._scores = scores
        self.calls = 0

    async def score(self, messages: Messages, response: str) -> float:
        self.calls += 1
        score = self._scores[response]
        if isinstance(score, Exception):
            raise score
        return score

    async def aclose(self) -> None:
        pass


async def reward(tmp_path: Path, model: Rewards, candidates: list[Candidate]) -> list[JudgeResult]:
    with Ledger(tmp_path / "l") as ledger:
        return await RewardJudge(RecordedRewardModel(model, ledger)).judge(PROMPT, candidates)


async def test_the_difference_of_rewards_is_the_margin(tmp_path: Path) -> None:
    model = Rewards({"alpha": 1.5, "beta": -0.5, "gamma": 0.0})
    results = await reward(tmp_path, model, THREE)
    standing = settle([item.id for item in THREE], results)
    assert standing.margin(THREE[0].id, THREE[1].id) == 2.0
    await reward(tmp_path, model, THREE)
    assert model.calls == 3


async def test_rewards_that_are_none(tmp_path: Path) -> None:
    model = Rewards({"alpha": math.nan, "beta": RequestRefusedError("400"), "gamma": math.inf})
    results = await reward(tmp_path, model, THREE)
    assert [result.status for result in results if isinstance(result, JudgeFailure)] == [
        "parse_failure",
        "api_error",
        "parse_failure",
    ]

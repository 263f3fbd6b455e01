"""The listwise judge: who is shown where, what a ranking is, and how rankings become judgments of pairs."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import combinations
from itertools import permutations as all_orders
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import PROMPT, candidate, recorded, scripted

from judges.asking import Asking
from judges.constitution import load_constitution
from judges.evidence import Unreadable
from judges.listwise import MOST, ListwiseJudge, RankingForm, permutations, read_ranking
from prefgen.candidate import Candidate
from prefgen.completion import Capabilities, Completion, CompletionRequest
from prefgen.errors import RequestRefusedError, UsageError
from prefgen.judgment import JudgeFailure, JudgeResult, Judgment
from prefgen.ledger import Ledger
from prefgen.models.scripted import ScriptedModel
from prefgen.prices import Price
from prefgen.recorded import RecordedModel
from prefgen.usage import Usage
from prefgen.verdicts import settle

RULES = load_constitution("concise-expert")
THREE = [candidate("alpha", 0), candidate("beta", 1), candidate("gamma", 2)]
PARSE = Unreadable("parse_failure")


def many(count: int) -> list[Candidate]:
    return [candidate(f"answer {number}", number) for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8, 26])
@pytest.mark.parametrize("orders", [2, 4, 6])
def test_each_pair_is_shown_in_both_orders_equally_often(count: int, orders: int) -> None:
    shown = permutations(many(count), orders, seed=1)
    assert len(set(shown)) == len(shown) == min(orders, 2 * count if count > 2 else 2)
    for a, b in combinations(many(count), 2):
        first = sum(order.index(a) < order.index(b) for order in shown)
        assert 2 * first == len(shown)
    for item in many(count):
        assert sum(order.index(item) for order in shown) == pytest.approx(len(shown) * (count - 1) / 2)


@pytest.mark.parametrize("count", [4, 6, 8])
def test_as_many_orders_as_candidates_put_each_in_every_place_once(count: int) -> None:
    shown = permutations(many(count), count, seed=3)
    for item in many(count):
        assert sorted(order.index(item) for order in shown) == list(range(count))


def test_orders_follow_from_seed_and_candidates_alone() -> None:
    items = many(6)
    assert permutations(items, 4, 1) == permutations(items[::-1], 4, 1)
    assert permutations(items, 4, 1) != permutations(items, 4, 2)
    assert len({permutations(items, 1, seed)[0][0].id for seed in range(60)}) == 6


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("C > A > B", (1, 2, 0)),
        ("A>B>C", (0, 1, 2)),
        (" B > A = C", (1, 0, 1)),
        ("A = B = C", (0, 0, 0)),
        ("**C > A > B**\n", (1, 2, 0)),
        ("`C > A > B`.\n\nThank you.", (1, 2, 0)),
        ("\nC > A > B", (1, 2, 0)),
    ],
)
def test_a_ranking(text: str, places: tuple[int, ...]) -> None:
    assert read_ranking(text, 3) == places


@pytest.mark.parametrize(
    "text",
    [
        "",
        "C > A",
        "C > A > B > D",
        "C > A > A",
        "C > A > B > A",
        "C > A > D",
        "C > A > Bob",
        "C A B",
        "C, A, B",
        "C < A < B",
        "C > > A > B",
        "C > A > B or A > C > B",
        "C > A > B > ",
        "c > a > b",
        "[C] > [A] > [B]",
        "Response C > A > B",
        "C > A\n> B",
        "С > А > В",  # Cyrillic.
    ],
)
def test_no_ranking(text: str) -> None:
    assert read_ranking(text, 3) is None


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    found = read_ranking(text, 3)
    assert found is None or len(found) == 3


@pytest.mark.parametrize("text", ["A>" * 100_000, " " * 100_000, "A" + " " * 100_000, "A >" + " " * 100_000])
def test_a_hostile_ranking_is_read_in_linear_time(text: str) -> None:
    assert read_ranking(text, 3) is None


@pytest.mark.parametrize(
    "order", [" > ".join(order) for order in all_orders("ABC")], ids=lambda order: order.replace(" ", "")
)
def test_the_last_ranking_counts_in_either_form(order: str) -> None:
    form = RankingForm(3)
    written = Completion(f"One could say\nRanking: A > B > C\nbut I say\nRanking: {order}")
    stated = Completion(json.dumps({"reason": "Ranking: A > B > C", "ranking": order}))
    expected = tuple("ABC".index(letter) for letter in order.split(" > "))
    for evidence, completion in (("votes", written), ("score", stated)):
        places = form.read(evidence, [completion])  # type: ignore[arg-type]
        assert isinstance(places, tuple)
        assert tuple(sorted(range(3), key=lambda index: places[index])) == expected


@pytest.mark.parametrize(
    "completion",
    [
        Completion("C > A > B"),
        Completion("Ranking: C > A > B\nRanking: unclear"),
        Completion("Ranking:"),
    ],
)
def test_a_reply_without_a_last_ranking(completion: Completion) -> None:
    assert RankingForm(3).read("votes", [completion]) == PARSE


@pytest.mark.parametrize("value", ['["C", "A", "B"]', "3", "true", "null", '"C > A"'])
def test_a_json_field_that_is_no_ranking(value: str) -> None:
    assert RankingForm(3).read("score", [Completion(f'{{"ranking": {value}}}')]) == PARSE


def test_a_cut_reply_is_not_read() -> None:
    assert RankingForm(3).read("votes", [Completion("Ranking: C > A > B", "length")]) == Unreadable(
        "truncated"
    )


def shown(request: CompletionRequest) -> list[str]:
    text = request.messages[0].content
    return [part.split("\n")[1] for part in text.split("<response_")[1:]]


def ranked(request: CompletionRequest, wanted: list[str]) -> str:
    """The ranking line that says `wanted`, in the letters of this request."""
    texts = shown(request)
    return "Ranking: " + " > ".join("ABC"[texts.index(text)] for text in wanted)


async def judged(
    tmp_path: Path, model: ScriptedModel, permutations: int = 4, attempt: int = 0
) -> list[JudgeResult]:
    with recorded(model, tmp_path / "l") as behind:
        judge = ListwiseJudge(
            behind, RULES, Asking(evidence="votes", attempt=attempt), permutations=permutations
        )
        return await judge.judge(PROMPT, THREE)


async def test_rankings_are_votes_for_every_pair(tmp_path: Path) -> None:
    """Four rankings put alpha over beta over gamma: 4 to 0 for every pair, log(4.5 / .5)."""
    model = ScriptedModel(lambda request, sample: ranked(request, ["alpha", "beta", "gamma"]))
    results = await judged(tmp_path, model)
    assert len(model.calls) == 4
    assert len({tuple(shown(call)) for call in model.calls}) == 4
    assert len(results) == 3
    assert all(item.provenance.order is None for item in results)
    standing = settle([item.id for item in THREE], results)
    for a, b in combinations(THREE, 2):
        assert standing.margin(a.id, b.id) == pytest.approx(math.log(9))
        assert standing.margin(b.id, a.id) == pytest.approx(-math.log(9))


async def test_a_judge_that_follows_places_alone_decides_nothing(tmp_path: Path) -> None:
    results = await judged(tmp_path, scripted("Ranking: A > B > C"))
    assert {item.log_odds for item in results if isinstance(item, Judgment)} == {0.0}
    assert len(results) == 3


async def test_ties_are_half_a_vote(tmp_path: Path) -> None:
    results = await judged(tmp_path, scripted("Ranking: A = B = C"))
    assert [item.log_odds for item in results if isinstance(item, Judgment)] == [0.0, 0.0, 0.0]


async def test_one_failed_ranking_leaves_the_others_verdict_and_stays_in_sight(tmp_path: Path) -> None:
    """3 to 0: log(3.5 / .5)."""
    model: ScriptedModel
    model = ScriptedModel(
        lambda request, sample: (
            RequestRefusedError("400: too long")
            if shown(request) == shown(model.calls[0])
            else ranked(request, ["alpha", "beta", "gamma"])
        )
    )
    results = await judged(tmp_path, model)
    assert [item.log_odds for item in results if isinstance(item, Judgment)] == pytest.approx(
        [math.log(7)] * 3
    )
    for result in results:
        told = json.loads(result.raw)
        assert Counter(item["status"] for item in told) == {"ok": 3, "api_error": 1}
        assert all(set(item["shown"]) == {one.id for one in THREE} for item in told)


@pytest.mark.parametrize("good", [0, 1, 2])
async def test_half_of_the_rankings_failed_is_a_failure_of_every_pair(tmp_path: Path, good: int) -> None:
    orders: list[list[str]] = []

    def answer(request: CompletionRequest, sample: int) -> str:
        if shown(request) not in orders:
            orders.append(shown(request))
        number = orders.index(shown(request))
        return ranked(request, ["alpha", "beta", "gamma"]) if number < good else "no"

    results = await judged(tmp_path, ScriptedModel(answer))
    assert [item.status for item in results if isinstance(item, JudgeFailure)] == ["parse_failure"] * 3
    assert settle([item.id for item in THREE], results).margins == {}


async def test_an_unreadable_ranking_is_asked_for_once_more_and_on_resume_again(tmp_path: Path) -> None:
    model = scripted("no")
    await judged(tmp_path, model)
    assert len(model.calls) == 8
    again = scripted("Ranking: A > B > C")
    results = await judged(tmp_path, again, attempt=1)
    assert all(isinstance(item, Judgment) for item in results)
    assert len(again.calls) == 4


async def test_the_cost_is_shared_among_the_pairs(tmp_path: Path) -> None:
    model = scripted(Completion("Ranking: A > B > C", input_tokens=90, output_tokens=10))
    with Ledger(tmp_path / "l") as ledger:
        behind = RecordedModel(model, ledger, Usage(Price(1e6, 1e6)))
        judge = ListwiseJudge(behind, RULES, Asking(evidence="votes"), permutations=3)
        results = await judge.judge(PROMPT, THREE)
    assert sum(item.cost_usd or 0 for item in results) == pytest.approx(300)


async def test_json_where_the_model_can(tmp_path: Path) -> None:
    model = scripted('{"reason": "", "ranking": "A > B > C"}', capabilities=Capabilities())
    with recorded(model, tmp_path / "l") as behind:
        results = await ListwiseJudge(behind, RULES, Asking()).judge(PROMPT, THREE)
    schema = model.calls[0].schema
    assert schema is not None
    assert list(schema["properties"]) == ["reason", "ranking"]  # type: ignore[arg-type, call-overload]
    assert all(isinstance(item, Judgment) for item in results)


async def test_more_candidates_than_letters(tmp_path: Path) -> None:
    model = scripted("Ranking: A > B > C")
    with recorded(model, tmp_path / "l") as behind, pytest.raises(UsageError, match="27 candidates"):
        await ListwiseJudge(behind, RULES, Asking()).judge(PROMPT, many(MOST + 1))
    assert not model.calls

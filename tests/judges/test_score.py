"""The score judge: the mean over the levels, what it is as log-odds, and the scale file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import PROMPT, candidate, recorded

from judges.asking import Asking
from judges.constitution import load_constitution
from judges.evidence import Evidence, Reading, Unreadable
from judges.scale import Scale, load_scale
from judges.score import LevelForm, ScoreJudge, score_log_odds
from prefgen.completion import Capabilities, Completion
from prefgen.errors import InputError
from prefgen.judgment import JudgeFailure, Judgment, sigmoid
from prefgen.models.scripted import ScriptedModel
from prefgen.verdicts import settle

FIVE = LevelForm((1, 2, 3, 4, 5))
PARSE = Unreadable("parse_failure")


def mass(**levels: float) -> Completion:
    logprobs = {name.removeprefix("l"): math.log(p) for name, p in levels.items()}
    return Completion("4", label_logprobs=logprobs)


def read(completion: Completion, evidence: Evidence = "logprobs") -> float:
    found = FIVE.read(evidence, [completion])
    assert isinstance(found, Reading)
    return found.log_odds


@pytest.mark.parametrize(
    ("score", "p"), [(1, 0.1), (2, 0.3), (3, 0.5), (4, 0.7), (5, 0.9), (3.5, 0.6), (4.25, 0.75)]
)
def test_a_score_of_five_levels_as_a_probability(score: float, p: float) -> None:
    assert sigmoid(score_log_odds(score, FIVE.scores)) == pytest.approx(p)


def test_a_scale_with_gaps_goes_from_end_to_end() -> None:
    """0, 5, 9: the middle of the scale is 4.5; three levels, so a sixth from the ends."""
    assert sigmoid(score_log_odds(9, (0, 5, 9))) == pytest.approx(5 / 6)
    assert score_log_odds(4.5, (0, 5, 9)) == pytest.approx(0.0)


@given(st.floats(1, 5), st.floats(1, 5))
def test_a_better_score_has_higher_odds_and_a_mirrored_one_the_opposite(one: float, other: float) -> None:
    a, b = score_log_odds(one, FIVE.scores), score_log_odds(other, FIVE.scores)
    assert (a > b) == (one > other) or one == pytest.approx(other)
    assert score_log_odds(6 - one, FIVE.scores) == pytest.approx(-a, abs=1e-9)


def test_the_mean_counts_and_not_the_mode() -> None:
    """Both have mode 4; means 4.1 and 3.5."""
    high, low = mass(l4=0.5, l5=0.3, l3=0.2), mass(l4=0.5, l3=0.2, l2=0.2, l5=0.05, l1=0.05)
    assert read(high) == pytest.approx(score_log_odds(4.1, FIVE.scores))
    assert read(low) == pytest.approx(score_log_odds(0.5 * 4 + 0.6 + 0.4 + 0.25 + 0.05, FIVE.scores))
    assert read(high) > read(low)


def test_levels_that_are_not_returned_have_no_part() -> None:
    found = FIVE.read("logprobs", [mass(l4=0.6, l5=0.2)])
    assert isinstance(found, Reading)
    assert found.coverage == pytest.approx(0.8)
    assert found.log_odds == pytest.approx(score_log_odds(4.25, FIVE.scores))


@pytest.mark.parametrize(
    "completion",
    [
        mass(l4=0.3, l5=0.19),
        Completion("4"),
        Completion("4", label_logprobs={"4": math.nan}),
        Completion("4", label_logprobs={"4": 3.0}),
        Completion("4", label_logprobs={"7": -0.01}),
    ],
)
def test_log_probabilities_that_are_none(completion: Completion) -> None:
    assert FIVE.read("logprobs", [completion]) == PARSE


@pytest.mark.parametrize("score", ["4", "4.0", "4.5", "1", "5"])
def test_a_stated_score(score: str) -> None:
    found = read(Completion(f'{{"reason": "score: 2", "score": {score}}}'), "score")
    assert found == pytest.approx(score_log_odds(float(score), FIVE.scores))


@pytest.mark.parametrize("score", ["0", "6", "true", "null", '"4"', "NaN", "1e999", "[4]"])
def test_a_stated_score_that_is_none(score: str) -> None:
    assert FIVE.read("score", [Completion(f'{{"reason": "", "score": {score}}}')]) == PARSE


def test_votes_are_averaged() -> None:
    replies = [Completion(f"Verdict: {vote}") for vote in ("4", "5", "nothing")]
    found = FIVE.read("votes", replies)
    assert isinstance(found, Reading)
    assert found.log_odds == pytest.approx(score_log_odds(4.5, FIVE.scores))


@pytest.mark.parametrize("vote", ["0", "6", "45", "4.5", "4 or 5", "four", "tie", "true"])
def test_a_vote_that_is_no_level(vote: str) -> None:
    assert FIVE.read("votes", [Completion(f"Verdict: {vote}")]) == PARSE


RULES = load_constitution("concise-expert")


async def test_one_question_a_response_and_only_differences_count(tmp_path: Path) -> None:
    levels = {"good": mass(l5=0.5, l4=0.5), "bad": mass(l2=0.5, l1=0.5)}
    model = ScriptedModel(lambda request, sample: levels["good" if "good" in _shown(request) else "bad"])
    sides = [candidate("good", 0), candidate("bad", 1)]
    with recorded(model, tmp_path / "l") as behind:
        judge = ScoreJudge(behind, RULES, Asking(), load_scale(None))
        results = await judge.judge(PROMPT, sides)
    assert len(model.calls) == 2
    assert model.calls[0].label_words == model.calls[0].choices == ("1", "2", "3", "4", "5")
    text = model.calls[0].messages[0].content
    for score, meaning in load_scale(None).levels.items():
        assert f"\n{score}: {meaning}\n" in text
    assert all(item.text in text for item in RULES.principles)
    margin = settle([item.id for item in sides], results, judge.weighing).margin(sides[0].id, sides[1].id)
    assert margin == pytest.approx(score_log_odds(4.5, FIVE.scores) - score_log_odds(1.5, FIVE.scores))


def _shown(request: object) -> str:
    return str(request).partition("<response-")[2].partition("</response-")[0]


@pytest.mark.parametrize(
    ("capabilities", "evidence", "reply"),
    [
        (Capabilities(logprobs=False, structured_output=True), "score", '{"reason": "", "score": 4}'),
        (Capabilities(logprobs=False, structured_output=False), "votes", "Verdict: 4"),
    ],
)
async def test_degraded_openly(capabilities: Capabilities, evidence: str, reply: str, tmp_path: Path) -> None:
    model = ScriptedModel(lambda request, sample: reply, capabilities=capabilities)
    with recorded(model, tmp_path / "l") as behind:
        (result,) = await ScoreJudge(behind, RULES, Asking(), load_scale(None)).judge(
            PROMPT, [candidate("x")]
        )
    assert isinstance(result, Judgment)
    assert result.provenance.evidence == evidence
    assert result.log_odds == pytest.approx(score_log_odds(4, FIVE.scores))


async def test_a_failure_is_a_failure(tmp_path: Path) -> None:
    model = ScriptedModel(lambda request, sample: Completion("9", label_logprobs={}))
    with recorded(model, tmp_path / "l") as behind:
        (result,) = await ScoreJudge(behind, RULES, Asking(), load_scale(None)).judge(
            PROMPT, [candidate("x")]
        )
    assert isinstance(result, JudgeFailure)
    assert (result.status, result.raw, len(model.calls)) == ("parse_failure", "9", 2)


async def test_another_scale_is_another_template(tmp_path: Path) -> None:
    other = Scale(id="x", levels={0: "bad", 9: "good"})
    hashes = set()
    for scale in (load_scale(None), other):
        model = ScriptedModel(lambda request, sample: Completion("9", label_logprobs={"9": 0.0, "5": 0.0}))
        with recorded(model, tmp_path / scale.id) as behind:
            (result,) = await ScoreJudge(behind, RULES, Asking(), scale).judge(PROMPT, [candidate("x")])
        hashes.add(result.provenance.template)
    assert len(hashes) == 2


def test_the_shipped_scale() -> None:
    scale = load_scale(None)
    assert (scale.id, scale.scores) == ("five-levels", (1, 2, 3, 4, 5))


def test_a_users_scale(tmp_path: Path) -> None:
    path = tmp_path / "scale.yaml"
    path.write_text("id: two\nlevels:\n  1: good\n  0: bad\n")
    scale = load_scale(path)
    assert scale.scores == (0, 1)
    assert scale.as_list() == "0: bad\n1: good"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id: x\nlevels:\n  1: a\n", "at least 2"),
        ("id: x\nlevels:\n  1: a\n  10: b\n", "less than or equal to 9"),
        ("id: x\nlevels:\n  1: a\n  -1: b\n", "greater than or equal to 0"),
        ("id: x\nlevels:\n  1: a\n  2: ''\n", "at least 1 character"),
        ("id: x\nlevels:\n  good: a\n  bad: b\n", "integer"),
        ("id: x\nlevels: [a, b]\n", "dictionary"),
        ("levels:\n  1: a\n  2: b\n", "id"),
        ("id: x\nlevels:\n  1: a\n  2: b\nlevel: 3\n", "did you mean 'levels'"),
        ("id: [\n", "broken YAML"),
    ],
)
def test_a_scale_that_is_none(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "scale.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"scale\.yaml") as error:
        load_scale(path)
    assert told in str(error.value)


def test_no_scale(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such scale"):
        load_scale(tmp_path / "none.yaml")

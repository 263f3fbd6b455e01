"""Rounds of critique and revision: who is shown what, which principle, and how a chain ends."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from making import PROMPT, recorded

from judges.constitution import Constitution, Principle
from judges.revision import Revised, Reviser, draw_principle
from prefgen.completion import Completion, CompletionRequest, Sampling
from prefgen.errors import DeadlineError, RequestRefusedError
from prefgen.models.scripted import ScriptedModel
from prefgen.sampling import SamplingPlan

RULES = Constitution(
    id="x",
    principles=(Principle(id="clear", text="Be clear.", weight=3), Principle(id="kind", text="Be kind.")),
)
Answer = str | Completion | Exception


def kind_of(request: CompletionRequest) -> str:
    text = request.messages[-1].content
    return "critique" if "You criticise" in text else "revision" if "You rewrite" in text else "response"


def held(text: str, part: str) -> str:
    return text.partition(f"<{part}-")[2].partition("\n")[2].partition(f"\n</{part}-")[0]


class Author:
    """Answers `response`, `critique n`, `revision n`; `exchanged` puts others in their place."""

    def __init__(self, **exchanged: Answer) -> None:
        self._exchanged, self._counts = exchanged, Counter[str]()

    def __call__(self, request: CompletionRequest, sample: int) -> Answer:
        kind = kind_of(request)
        self._counts[kind] += 1
        name = kind if kind == "response" else f"{kind}_{self._counts[kind]}"
        return self._exchanged.get(name, name.replace("_", " "))


async def revised(
    tmp_path: Path, model: ScriptedModel, rounds: int = 2, system: str | None = None
) -> Revised:
    with recorded(model, tmp_path / "l") as behind:
        plan = SamplingPlan(1, Sampling(50, 1.0), 7, system)
        return await Reviser(behind, behind, RULES, rounds, plan).revise(PROMPT)


async def test_each_round_criticises_and_rewrites_what_the_last_one_wrote(tmp_path: Path) -> None:
    model = ScriptedModel(Author())
    found = await revised(tmp_path, model)
    assert [kind_of(call) for call in model.calls] == ["response", *["critique", "revision"] * 2]
    assert (found.response, found.revision, found.stopped) == ("response", "revision 2", None)
    assert [(item.number, item.critique, item.revision) for item in found.rounds] == [
        (1, "critique 1", "revision 1"),
        (2, "critique 2", "revision 2"),
    ]
    for number, item in enumerate(found.rounds):
        critique, revision = (model.calls[1 + 2 * number + step].messages[-1].content for step in (0, 1))
        before = ("response", "revision 1")[number]
        assert held(critique, "response") == held(revision, "response") == before
        assert held(critique, "request") == held(revision, "request") == PROMPT.text
        assert held(revision, "critique") == item.critique
        text = {one.id: one.text for one in RULES.principles}[item.principle]
        assert f"Principle: {text}\n" in critique
        assert f"Principle: {text}\n" in revision


async def test_a_critic_of_its_own(tmp_path: Path) -> None:
    policy, critic = ScriptedModel(Author()), ScriptedModel(Author(), spec="scripted/critic")
    with recorded(policy, tmp_path / "l") as one, recorded(critic, tmp_path / "m") as other:
        await Reviser(one, other, RULES, 2, SamplingPlan(1, Sampling())).revise(PROMPT)
    assert {kind_of(call) for call in policy.calls} == {"response", "revision"}
    assert {kind_of(call) for call in critic.calls} == {"critique"}


async def test_a_system_prompt_is_for_the_response(tmp_path: Path) -> None:
    model = ScriptedModel(Author())
    await revised(tmp_path, model, system="Be brief.")
    assert [[message.role for message in call.messages] for call in model.calls][:2] == [
        ["system", "user"],
        ["user"],
    ]


@pytest.mark.parametrize(
    ("name", "answer", "why", "rounds"),
    [
        ("response", "", "empty", 0),
        ("response", RequestRefusedError("400"), "api_error", 0),
        ("critique_1", Completion("Too", "length"), "truncated", 0),
        ("critique_2", DeadlineError("late"), "timeout", 1),
        ("revision_1", Completion("I will not.", "refusal"), "refusal", 0),
        ("revision_2", " \n", "empty", 1),
        ("revision_2", Completion("A good ans", "length"), "truncated", 1),
        ("revision_2", "response \n", "unchanged", 2),
    ],
)
async def test_a_chain_that_ends_badly_gives_no_revision(
    name: str, answer: Answer, why: str, rounds: int, tmp_path: Path
) -> None:
    found = await revised(tmp_path, ScriptedModel(Author(**{name: answer})))
    assert (found.stopped, found.revision, len(found.rounds)) == (why, None, rounds)


async def test_a_round_may_leave_the_text_as_it_is(tmp_path: Path) -> None:
    found = await revised(tmp_path, ScriptedModel(Author(revision_1="response")))
    assert found.revision == "revision 2"


def test_principles_are_drawn_by_weight_anew_for_each_round_and_prompt() -> None:
    drawn = Counter(draw_principle(RULES, 0, f"p{n}", number).id for n in range(500) for number in (1, 2))
    assert drawn["clear"] / 1000 == pytest.approx(0.75, abs=0.05)
    again = [[draw_principle(RULES, seed, "p", n).id for n in range(1, 13)] for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]
    assert len(set(again[0])) == 2

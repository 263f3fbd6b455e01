"""Sampling candidates: what is asked for, what is written down, what counts as the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from making import PROMPT, recorded, scripted

from prefgen.completion import EVERY_DRAW, Capabilities, Completion, CompletionRequest, Sampling, Shared
from prefgen.errors import DeadlineError, RequestRefusedError
from prefgen.messages import Message
from prefgen.models.scripted import ScriptedModel
from prefgen.prompt import Prompt
from prefgen.sampling import SamplingPlan, prompt_seed, sample

PLAN = SamplingPlan(3, Sampling(100, 0.7, 0.9), seed=4)


async def test_candidates_say_how_they_were_drawn(tmp_path: Path) -> None:
    model = ScriptedModel(lambda request, number: Completion(f"text {number}", "length", output_tokens=2))
    with recorded(model, tmp_path / "l") as policy:
        drawn = (await sample(PROMPT, [policy], PLAN)).candidates
    seed = prompt_seed(4, PROMPT.id)
    assert [item.seed for item in drawn] == [seed, seed + 1, seed + 2]
    assert {(item.temperature, item.top_p, item.n_tokens) for item in drawn} == {(0.7, 0.9, 2)}
    assert all(item.truncated for item in drawn)
    assert len({item.id for item in drawn}) == 3


async def test_draws_share_the_prompt_and_all_of_a_run_the_system_text(tmp_path: Path) -> None:
    model = scripted("x")
    with recorded(model, tmp_path / "l") as policy:
        await sample(PROMPT, [policy], replace(PLAN, system="Be brief."))
    whole = len(PROMPT.messages[-1].content)
    assert model.calls[0].shared == (Shared(0, 9, EVERY_DRAW), Shared(1, whole, 3))


async def test_what_a_model_does_not_take_is_not_claimed(tmp_path: Path) -> None:
    model = scripted("x", capabilities=Capabilities(temperature=False, seed=False, top_p=False))
    with recorded(model, tmp_path / "l") as policy:
        drawn = (await sample(PROMPT, [policy], PLAN)).candidates
    assert {(item.temperature, item.top_p, item.seed) for item in drawn} == {(None, None, None)}


async def test_equal_texts_are_found_across_policies(tmp_path: Path) -> None:
    first, second = scripted("same"), scripted(" same\n")
    second.spec = second.identity = "scripted/other"
    with recorded(first, tmp_path / "l") as one, recorded(second, tmp_path / "m") as other:
        drawn = await sample(PROMPT, [one, other], PLAN)
    assert len(drawn.candidates) == 6
    assert [item.text for item in drawn.distinct] == ["same"]
    assert set(drawn.duplicate_of.values()) == {drawn.candidates[0].id}


async def test_a_policy_that_fails_leaves_the_others(tmp_path: Path) -> None:
    bad, late, good = scripted(RequestRefusedError("no")), scripted(DeadlineError("late")), scripted("fine")
    with (
        recorded(bad, tmp_path / "a") as one,
        recorded(late, tmp_path / "b") as two,
        recorded(good, tmp_path / "c") as three,
    ):
        drawn = await sample(PROMPT, [one, two, three], PLAN)
    assert drawn.failures == ("api_error", "timeout")
    assert [item.text for item in drawn.candidates] == ["fine"] * 3


async def test_a_system_prompt_is_added_unless_the_prompt_has_one(tmp_path: Path) -> None:
    seen: list[CompletionRequest] = []

    def answer(request: CompletionRequest, number: int) -> str:
        seen.append(request)
        return "x"

    own = Prompt("p2", (Message("system", "mine"), Message("user", "hi")))
    plan = SamplingPlan(1, Sampling(), system="theirs")
    with recorded(ScriptedModel(answer), tmp_path / "l") as policy:
        await sample(PROMPT, [policy], plan)
        await sample(own, [policy], plan)
    assert [request.messages[0].content for request in seen] == ["theirs", "mine"]
    assert [len(request.messages) for request in seen] == [2, 2]


def test_seeds_belong_to_prompts() -> None:
    seeds = {prompt_seed(run, f"p{number}") for run in range(3) for number in range(100)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**31 for seed in seeds)


async def test_the_first_draws_are_the_same_whatever_is_drawn_after_them(tmp_path: Path) -> None:
    def answer(request: CompletionRequest, number: int) -> str:
        return f"{(request.sampling.seed or 0) + number}"

    plan = SamplingPlan(5, Sampling(), seed=4, first=2)
    assert plan.rounds == [2, 4, 5]
    assert PLAN.rounds == [3]
    model = ScriptedModel(answer)
    with recorded(model, tmp_path / "l") as policy:
        few = await sample(PROMPT, [policy], plan, 2)
        all_ = await sample(PROMPT, [policy], plan, 5)
    assert few.candidates == all_.candidates[:2]
    assert (few.spared, all_.spared) == (3, 0)
    assert [request.samples for request in model.calls] == [(0, 1), (2, 3, 4)]

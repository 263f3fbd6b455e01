"""Several reward models as one, against values worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import make_reward_model

from prefgen.errors import InputError, ModelUnavailableError, RequestRefusedError
from prefgen.messages import Messages, user
from prefgen.models import open_reward_model
from prefgen.models.ensemble import (
    Ensemble,
    EnsembleMode,
    EnsembleRewardModel,
    EnsembleUse,
    Member,
    find_ensemble,
    open_ensemble,
)

HELD_OUT = Ensemble(
    scale_from="held-out",
    members=(
        Member(path="member-1", seed=1, mean=10.0, std=1.0, n=40),
        Member(path="member-2", seed=2, mean=-4.0, std=3.0, n=40),
    ),
)


class Fixed:
    """A reward model that knows one number."""

    def __init__(self, spec: str, reward: float = 0.0) -> None:
        self.spec, self.identity, self._reward, self.closed = spec, f"id:{spec}", reward, False

    async def score(self, messages: Messages, response: str) -> float:
        if response == "?":
            raise RequestRefusedError("refused")
        return self._reward

    async def aclose(self) -> None:
        self.closed = True


def test_members_are_put_on_one_scale() -> None:
    # s = (1 + 3) / 2 = 2; (12 - 10) · 2 / 1 and (-1 + 4) · 2 / 3.
    assert HELD_OUT.on_one_scale([12.0, -1.0]) == pytest.approx([4.0, 2.0])


@pytest.mark.parametrize(
    ("use", "reward"),
    [
        (EnsembleUse("mean"), 3.0),
        (EnsembleUse("worst"), 2.0),
        (EnsembleUse("uncertainty", 0.5), 2.5),  # 3 - 0.5 · ((4 - 3)² + (2 - 3)²) / 2
        (EnsembleUse("uncertainty", 2.0), 1.0),
        (EnsembleUse("uncertainty", 0.0), 3.0),
    ],
)
async def test_members_become_one_reward(use: EnsembleUse, reward: float) -> None:
    members = [Fixed("a", 12.0), Fixed("b", -1.0)]
    model = EnsembleRewardModel("x/y", HELD_OUT, members, use)
    assert await model.score(user("q"), "a") == pytest.approx(reward)
    with pytest.raises(RequestRefusedError):
        await model.score(user("q"), "?")
    await model.aclose()
    assert all(member.closed for member in members)


def test_the_identity_is_of_members_scale_and_use() -> None:
    def identity(*specs: str, ensemble: Ensemble = HELD_OUT, use: EnsembleUse | None = None) -> str:
        return EnsembleRewardModel(
            "s", ensemble, [Fixed(spec) for spec in specs], use or EnsembleUse()
        ).identity

    other = HELD_OUT.members[1].model_copy(update={"std": 2.0})
    rescaled = HELD_OUT.model_copy(update={"members": (HELD_OUT.members[0], other)})
    modes: tuple[EnsembleMode, ...] = ("mean", "worst", "uncertainty")
    found = [
        identity("a", "b"),
        identity("a", "c"),
        identity("a", "b", ensemble=rescaled),
        *(identity("a", "b", use=EnsembleUse(mode, 0.1)) for mode in modes[1:]),
        identity("a", "b", use=EnsembleUse("uncertainty", 0.2)),
    ]
    assert len(set(found)) == len(found)
    # The penalty is no part of what does not use it.
    assert identity("a", "b", use=EnsembleUse("worst", 0.1)) == identity(
        "a", "b", use=EnsembleUse("worst", 9)
    )


async def test_a_member_that_does_not_open_closes_the_others() -> None:
    opened: list[Fixed] = []

    async def open_member(spec: str) -> Fixed:
        if opened:
            raise ModelUnavailableError(spec)
        opened.append(Fixed(spec))
        return opened[0]

    with pytest.raises(ModelUnavailableError, match="x/y/member-2"):
        await open_ensemble("x/y", HELD_OUT, EnsembleUse(), open_member)
    assert opened[0].closed


async def test_a_folder_with_an_ensemble_is_a_reward_model(tmp_path: Path) -> None:
    names = [member.path for member in HELD_OUT.members]
    for seed, name in enumerate(names):
        make_reward_model(tmp_path / name, seed)
    (tmp_path / "ensemble.json").write_text(HELD_OUT.model_dump_json())
    alone = []
    for name in names:
        model = await open_reward_model(f"transformers/{tmp_path / name}")
        alone.append(await model.score(user("where is it"), "soon"))
        await model.aclose()
    model = await open_reward_model(f"transformers/{tmp_path}", use=EnsembleUse("worst"))
    assert await model.score(user("where is it"), "soon") == pytest.approx(
        min(HELD_OUT.on_one_scale(alone)), abs=1e-6
    )
    await model.aclose()


def test_a_broken_ensemble_is_refused(tmp_path: Path) -> None:
    assert find_ensemble(str(tmp_path)) is None
    told = HELD_OUT.model_dump()
    told["members"][0]["std"] = 0
    (tmp_path / "ensemble.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"members\.0\.std: Input should be greater than 0"):
        find_ensemble(str(tmp_path))

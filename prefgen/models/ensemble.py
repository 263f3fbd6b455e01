"""Several reward models of one training, used as one: Coste et al. 2024, arXiv 2310.02743.

What one reward model overrates by chance the others seldom do, so a policy gains less by finding it. Members
are trained alike but for their seed; a Bradley-Terry reward is known up to an addend only, and members are
sure in different degrees. So before they are compared each is put on one scale, by its mean and standard
deviation over the same responses, held out from training where there are enough:

    z_i = (r_i - mean_i) · s / std_i        s: the mean of all std_i, so that z keeps a reward's unit

    mean          the mean of the z_i
    worst         the least of them: what no member disputes
    uncertainty   mean - penalty · variance (population variance)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pvariance
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefgen.completion import RewardModel
from prefgen.errors import InputError
from prefgen.messages import Json, Messages, content_hash

FILE = "ensemble.json"
EnsembleMode = Literal["mean", "worst", "uncertainty"]


class Member(BaseModel):
    """`path`: of its model, below the file's folder; `mean` and `std`: of its rewards for `n` responses."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: str = Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")
    seed: int
    mean: float
    std: float = Field(gt=0)
    n: int


class Ensemble(BaseModel):
    """`ensemble.json`. `scale_from`: the rows that mean and standard deviation were taken on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale_from: Literal["held-out", "training"]
    members: tuple[Member, ...] = Field(min_length=2)

    def on_one_scale(self, rewards: Sequence[float]) -> list[float]:
        """z of each member's reward for one response."""
        scale = fmean(member.std for member in self.members)
        pairs = zip(rewards, self.members, strict=True)
        return [(reward - member.mean) * scale / member.std for reward, member in pairs]


@dataclass(frozen=True, slots=True)
class EnsembleUse:
    """How members become one reward. `penalty`: for uncertainty, per unit of variance."""

    mode: EnsembleMode = "mean"
    penalty: float = 0.5

    def combine(self, rewards: Sequence[float]) -> float:
        """`rewards`: of all members for one response, on one scale."""
        match self.mode:
            case "mean":
                return fmean(rewards)
            case "worst":
                return min(rewards)
            case "uncertainty":
                return fmean(rewards) - self.penalty * pvariance(rewards)


def find_ensemble(name: str) -> Ensemble | None:
    """The ensemble in a folder; None where the name is none of such a folder. Raises InputError."""
    path = Path(name).expanduser() / FILE
    if not path.is_file():
        return None
    try:
        return Ensemble.model_validate_json(path.read_text("utf-8"))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise InputError(path, f"no ensemble of reward models: {where}: {fault['msg']}") from error


class EnsembleRewardModel:
    """A `RewardModel` of several. Its identity is of all members, their scale and their use."""

    def __init__(
        self, spec: str, ensemble: Ensemble, members: Sequence[RewardModel], use: EnsembleUse
    ) -> None:
        self.spec = spec
        self._ensemble, self._members, self._use = ensemble, members, use
        scales: list[Json] = [[member.mean, member.std] for member in ensemble.members]
        penalty = use.penalty if use.mode == "uncertainty" else None
        told = content_hash([[member.identity for member in members], scales, use.mode, penalty])
        self.identity = f"ensemble:{use.mode}:{told}"

    async def score(self, messages: Messages, response: str) -> float:
        """Raises what a member raises: a reward without one of them is another reward."""
        # Not a group of tasks: what a member raises has to reach the engine, which retries, as it is.
        rewards = await asyncio.gather(*(member.score(messages, response) for member in self._members))
        return self._use.combine(self._ensemble.on_one_scale(rewards))

    async def aclose(self) -> None:
        await asyncio.gather(*(member.aclose() for member in self._members))


async def open_ensemble(
    spec: str, ensemble: Ensemble, use: EnsembleUse, open_member: Callable[[str], Awaitable[RewardModel]]
) -> EnsembleRewardModel:
    """`open_member`: opens the reward model of a spec. Raises as that does."""
    members: list[RewardModel] = []
    try:
        for member in ensemble.members:
            members.append(await open_member(f"{spec}/{member.path}"))
    except BaseException:
        await asyncio.gather(*(member.aclose() for member in members))
        raise
    return EnsembleRewardModel(spec, ensemble, members, use)

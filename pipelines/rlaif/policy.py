"""The one policy of a loop: it is always the same engine, whose weights change."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipelines.roles import Roles
from prefgen.models import ModelSpec
from prefgen.models.local import weights_identity
from prefgen.recorded import RecordedModel


class Policy:
    """`others`: the specs of models that judge; their engines keep their weights, even where one is the
    policy's start."""

    def __init__(self, roles: Roles, others: Collection[str]) -> None:
        self._roles, self._others = roles, set(others)
        self._spec: str | None = None
        self.loaded: str | None = None

    async def take(self, spec: str) -> RecordedModel:
        """The policy with these weights. `loaded` says how they came into the engine where they changed."""
        if spec != self._spec:
            if self._spec is None or self._spec in self._others:
                self.loaded = "started"
            else:
                self.loaded = await self._roles.replace(self._spec, spec)
            self._spec = spec
        return await self._roles.model(spec)

    async def close(self) -> None:
        if self._spec is not None and self._spec not in self._others:
            await self._roles.close(self._spec)
        self._spec = None


def local_spec(like: str, folder: Path) -> str:
    """The spec of a folder, for the same provider as the spec `like`."""
    return f"{ModelSpec.parse(like).provider}/{folder}"


def folder_of(spec: str) -> Path:
    return Path(ModelSpec.parse(spec).name)


def identity_of(spec: str) -> str:
    """The identity that an adapter gives to a local folder's weights."""
    return f"{ModelSpec.parse(spec).provider}:{weights_identity(str(folder_of(spec)), folder_of(spec))}"

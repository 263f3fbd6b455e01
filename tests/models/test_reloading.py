"""New weights in a running engine: when they may go in, and when they are believed to be in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines.console import Console
from pipelines.roles import Roles
from prefgen.completion import Capabilities, Completion, CompletionRequest, Reply
from prefgen.ledger import Ledger
from prefgen.messages import user
from prefgen.models.local import weights_identity
from prefgen.models.reloading import is_fresh, objection

QUESTION = CompletionRequest(user("?"), label_words=("A",))


def a_folder(path: Path, **changes: Any) -> Path:
    path.mkdir()
    config = {"hidden_size": 4, "dtype": "float32", "transformers_version": "1"} | changes.pop("config", {})
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(
        json.dumps({"model": changes.pop("vocab", "v"), "padding": str(path)})
    )
    (path / "chat_template.jinja").write_text(changes.pop("template", "t"))
    (path / "weights").write_text(changes.pop("weights", "-1.0"))
    for name, text in changes.items():
        (path / f"{name}.json").write_text(text)
    return path


@pytest.mark.parametrize(
    ("was", "now", "fresh"),
    [
        (0.5, 0.0009, True),  # As near as float32 gets.
        (0.0002, 0.0002, True),  # Nothing to tell apart: the weights are the same.
        (0.5, 0.02, True),  # bfloat16: 25 times nearer than before.
        (0.03, 0.02, False),  # No nearer to speak of: it may be rounding.
        (0.5, 0.2, False),  # Nearer, but not there: half of the weights are old.
    ],
)
def test_what_counts_as_fresh(was: float, now: float, fresh: bool) -> None:
    assert is_fresh(was, now) is fresh


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": {"dtype": "bfloat16", "transformers_version": "2"}}, None),
        ({"weights": "-2.0"}, None),
        ({"config": {"hidden_size": 8}}, "another shape: hidden_size"),
        ({"generation_config": '{"eos_token_id": 3}'}, "another generation config: eos_token_id"),
        ({"vocab": "w"}, "another tokenizer or chat template"),
        ({"template": "u"}, "another tokenizer or chat template"),
        ({"adapter_config": '{"base_model_name_or_path": "x"}'}, "an adapter is loaded at the start only"),
    ],
)
def test_what_speaks_against_it(changes: dict[str, Any], reason: str | None, tmp_path: Path) -> None:
    assert objection(a_folder(tmp_path / "a"), a_folder(tmp_path / "b", **changes)) == reason


class Engine:
    """A model whose log-probability of A is the number in its folder; `stuck` ones keep the first."""

    opened: list[str]

    def __init__(self, path: str, spec: str, stuck: bool = False) -> None:
        self.spec, self.stuck = spec, stuck
        self.capabilities = Capabilities(logprobs=True)
        self._take(path)

    def _take(self, path: str) -> None:
        self.identity = weights_identity(path, Path(path))
        if not hasattr(self, "value") or not self.stuck:
            self.value = float((Path(path) / "weights").read_text())

    async def reload(self, path: str, spec: str) -> None:
        self.spec = spec
        self._take(path)

    async def complete(self, request: CompletionRequest) -> Reply:
        return Reply((Completion("A", label_logprobs={"A": self.value}),), self.spec)

    async def aclose(self) -> None:
        pass


@pytest.fixture(params=[False, True], ids=["healthy", "stuck"])
def stuck(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    async def open_engine(path: str, spec: str, options: Any = None, share: int = 1) -> Engine:
        return Engine(path, spec, stuck=request.param)

    async def open_reference(path: str, spec: str, options: Mapping[str, Any] | None = None) -> Engine:
        assert options == {"device": "cpu"}
        return Engine(path, spec)

    monkeypatch.setattr("prefgen.models.vllm.open_vllm", open_engine)
    monkeypatch.setattr("prefgen.models.transformers.open_transformers", open_reference)
    found: bool = request.param
    return found


async def test_a_policy_is_replaced_by_its_weights_or_by_a_new_engine(stuck: bool, tmp_path: Path) -> None:
    one, two = (f"vllm/{a_folder(tmp_path / name, weights=f'-{name}')}" for name in ("1", "2"))
    with Ledger(tmp_path / "ledger") as ledger:
        async with Roles(ledger, Console(quiet=True)) as roles:
            before = await roles.model(one)
            assert (await before.complete(QUESTION)).completions[0].label_logprobs == {"A": -1.0}
            how = await roles.replace(one, two)
            assert how.startswith("restarted: its log-probabilities were 1 from" if stuck else "reloaded")
            after = await roles.model(two)
            assert (after.spec, after.identity) == (two, weights_identity(two[5:], Path(two[5:])))
            # The ledger knows the old model's answer to this question; this is another model.
            assert (await after.complete(QUESTION)).completions[0].label_logprobs == {"A": -2.0}
            assert after.usage.cached_requests == 0
            assert roles.usage["requests"] == 2
            assert roles.take_usage()["requests"] == 2
            assert roles.usage["requests"] == 0
            # The old one opens anew where somebody asks for it.
            again = await roles.model(one)
            assert (await again.complete(QUESTION)).completions[0].label_logprobs == {"A": -1.0}
            assert again.usage.cached_requests == 1


async def test_what_is_not_open_is_not_replaced(stuck: bool, tmp_path: Path) -> None:
    one, two = (f"vllm/{a_folder(tmp_path / name)}" for name in ("1", "2"))
    with Ledger(tmp_path / "ledger") as ledger:
        async with Roles(ledger, Console(quiet=True)) as roles:
            assert await roles.replace(one, two) == "started"

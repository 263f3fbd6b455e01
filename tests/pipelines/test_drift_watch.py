"""A judge that changes during a run pauses it; nothing that was paid for is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import FAKES, Ran, Runner, rows, some_prompts

from prefgen.completion import Completion, CompletionRequest, Reply
from prefgen.models.scripted import ScriptedModel, open_scripted

EVERY = ("--drift-every", 30)


class Changing(ScriptedModel):
    """The scripted judge, which after `honest` calls turns its opinion round or goes by another name."""

    honest = 0
    asked = 0
    served = "scripted/judge"
    turned = False

    def __init__(self) -> None:
        super().__init__(self.judged, "scripted/judge")

    def judged(self, request: CompletionRequest, sample: int) -> Completion:
        Changing.asked += 1
        said = open_scripted("judge")._one(request, sample)
        if not (Changing.turned and Changing.asked > Changing.honest):
            return said
        assert said.label_logprobs is not None
        first, second = said.label_logprobs.values()
        return replace(said, label_logprobs=dict(zip(said.label_logprobs, (second, first), strict=True)))

    async def complete(self, request: CompletionRequest) -> Reply:
        reply = await super().complete(request)
        return replace(reply, served=Changing.served if Changing.asked > Changing.honest else self.spec)


@pytest.fixture(autouse=True)
def _changing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(text: str, options: Mapping[str, Any] | None = None, share: int = 1) -> Any:
        return Changing() if text == "scripted/judge" else open_scripted("writer")

    monkeypatch.setattr("pipelines.roles.open_model", opened)
    Changing.asked, Changing.honest, Changing.served, Changing.turned = 0, 10**9, "scripted/judge", False


@pytest.fixture
def run(tmp_path: Path, prefgen: Runner) -> Any:
    prompts = some_prompts(tmp_path / "p.jsonl", 100)

    def go(*more: object) -> Ran:
        arguments = (*FAKES, "--n", 2, "--planted", 0, "--concurrency", 1, "--test-share", 0, "--json")
        return prefgen("generate", prompts, *arguments, "--out", tmp_path / "run", *more)

    return go


def test_a_steady_judge_is_checked_and_left_alone(run: Any, tmp_path: Path) -> None:
    done = run(*EVERY)
    assert done.code == 0, done.err
    drift = done.result["drift"]
    assert [check["after_prompts"] for check in drift["checks"]] == [30, 60, 90]
    assert {check["change"] for check in drift["checks"]} == {0.0}
    assert (drift["n_probes"], drift["served"]) == (20, {"scripted/judge": ["scripted/judge"]})
    # 100 comparisons in two orders, and 20 of them asked four times more: real calls, not the ledger's.
    judged = {row["ledger_key"] for row in rows(tmp_path / "run" / "judgments.parquet")}
    assert Changing.asked == len(judged) + 4 * 40


def test_short_runs_pay_for_no_probe(run: Any) -> None:
    assert run().result["drift"]["checks"] == []
    assert Changing.asked <= 200


def test_a_turned_judge_pauses_the_run(run: Any, tmp_path: Path) -> None:
    Changing.honest, Changing.turned = 150, True
    paused = run(*EVERY)
    assert paused.code == 3
    assert "no longer judges as at the start: after 60 prompts" in paused.err
    assert "--accept-drift" in paused.err
    assert not (tmp_path / "run" / "manifest.json").exists()
    calls = Changing.asked
    again = run(*EVERY, "--resume")
    assert again.code == 3, "the judge is still another"
    assert Changing.asked - calls <= 60, "only the probes and what was under way are paid for"
    Changing.turned = False
    back = run(*EVERY, "--resume")
    assert back.code == 0, back.err


def test_a_turned_judge_can_be_accepted(run: Any) -> None:
    Changing.honest, Changing.turned = 150, True
    assert run(*EVERY).code == 3
    done = run(*EVERY, "--resume", "--accept-drift")
    assert done.code == 0, done.err
    assert "warning: scripted/judge no longer judges" in done.err
    changes = [check["change"] for check in done.result["drift"]["checks"]]
    assert changes[0] > 1
    assert changes[1:] == [0.0] * len(changes[1:]), "what is accepted is what is compared with from then on"


def test_another_served_name_pauses_the_run(run: Any, tmp_path: Path) -> None:
    Changing.honest, Changing.served = 100, "scripted/judge-2"
    paused = run("--drift-every", 0)
    assert paused.code == 3
    assert "'scripted/judge' at first and as 'scripted/judge-2'" in paused.err
    assert run("--drift-every", 0, "--resume").code == 3
    calls = Changing.asked
    done = run("--drift-every", 0, "--resume", "--accept-drift")
    assert done.code == 0, done.err
    assert Changing.asked - calls <= 200 - 100, "what the first judge said is not asked again"
    assert done.result["drift"]["served"] == {"scripted/judge": ["scripted/judge", "scripted/judge-2"]}
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["accept_drift"] is True

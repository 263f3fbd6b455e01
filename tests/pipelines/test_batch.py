"""`--batch`, as users run it: whole jobs, both providers, kills in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_server import OK, BatchServer, serving
from running import Runner, rows, some_prompts, write_prompts

from prefgen.ledger import Ledger
from prefgen.prices import Price

PROVIDERS = ("openai", "anthropic")
both = pytest.mark.parametrize("provider", PROVIDERS)
# The command line, killed without a word just before or just after a batch is sent.
DRIVER = textwrap.dedent(
    """
    import os, sys
    from prefgen.models.batches import anthropic, openai

    def deadly(submit):
        async def killed(self, tag, lines):
            if os.environ["DIE"] == "after":
                await submit(self, tag, lines)
            os._exit(9)
        return killed

    for service in (anthropic.AnthropicBatches, openai.OpenAIBatches):
        service.submit = deadly(service.submit)
    from pipelines.cli import main
    main(sys.argv[1:])
    """
)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with serving() as server:
        yield server


def spec(server: BatchServer, provider: str, name: str) -> str:
    return f"{provider}/{name}@{server.url}" + ("/v1" if provider == "openai" else "")


def generating(server: BatchServer, folder: Path, provider: str, out: str = "run") -> list[object]:
    if not (folder / "p.jsonl").exists():
        some_prompts(folder / "p.jsonl", 8)
    return [
        "generate", folder / "p.jsonl", "--out", folder / out, "--n", 3, "--batch", "--batch-poll", 0.1,
        "--policy", spec(server, "openai", "writer"), "--judge", spec(server, provider, "judge"),
        "--ledger", folder / "ledger.sqlite",
    ]  # fmt: skip


def tables(folder: Path) -> dict[str, Any]:
    names = ("candidates", "judgments", "scores", "dpo/train", "kto/train")
    return {name: rows(folder / f"{name}.parquet") for name in names}


def started(command: list[object]) -> subprocess.Popen[str]:
    prefgen = str(Path(sys.executable).with_name("prefgen"))
    return subprocess.Popen([prefgen, *map(str, command)], stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    while not condition():
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)


@both
def test_a_run_through_batches_makes_the_tables_of_a_direct_one(
    provider: str, server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    command = generating(server, tmp_path, provider)
    ran = prefgen(*command)
    assert ran.code == 0, ran.err
    direct = len(server.direct)
    assert direct <= 4
    assert not server.asked_twice
    assert "batch openai-batch-1" in ran.err
    plain = [item for item in generating(server, tmp_path, provider, "plain") if item != "--batch"]
    assert prefgen(*plain[:-1], tmp_path / "other.sqlite").code == 0
    assert len(server.direct) > direct
    assert tables(tmp_path / "run") == tables(tmp_path / "plain")


def test_only_models_with_batches_are_batched(server: BatchServer, prefgen: Runner, tmp_path: Path) -> None:
    command = generating(server, tmp_path, "anthropic")
    command[command.index("--policy") + 1] = "scripted/writer"
    assert prefgen(*command, "--engine-arg", "latency=0.3", "--concurrency", 2).code == 0
    assert {batch.provider for batch in server.held} == {"anthropic"}
    # The judge waits for the policy, slow as it is; the planted pairs come after the first answers.
    assert len(server.sizes) <= 4


@pytest.mark.parametrize("named", [True, False])
def test_a_server_without_batches_is_refused_before_anything_is_paid(
    named: bool, server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    server.has_batches = False
    command = generating(server, tmp_path, "openai")
    if not named:
        command[command.index("--policy") + 1] = "scripted/writer"
    ran = prefgen(*command)
    assert ran.code == 2
    assert "no batches" in ran.err
    assert not server.direct
    assert not (tmp_path / "run").exists()


def test_batches_need_a_server(prefgen: Runner, tmp_path: Path) -> None:
    ran = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl"), "--policy", "scripted/writer", "--judge",
        "scripted/judge", "--out", tmp_path / "run", "--batch",
    )  # fmt: skip
    assert ran.code == 2
    assert "only servers have batches" in ran.err


def test_looking_often_and_batches_do_not_go_together(
    server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    ran = prefgen(
        "evaluate", some_prompts(tmp_path / "p.jsonl"), "--model", "scripted/writer", "--baseline",
        "scripted/hasty", "--judge", spec(server, "openai", "judge"), "--out", tmp_path / "e", "--batch",
        "--stop-when-clear",
    )  # fmt: skip
    assert ran.code == 2
    assert "--stop-when-clear" in ran.err


@both
def test_killed_while_a_batch_is_open_and_resumed(
    provider: str, server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    """kill -9, then the same command in another process, and in the end the tables of a run never killed."""
    server.looks = 1_000_000
    command = generating(server, tmp_path, provider)
    running = started(command)
    until(lambda: any(batch.looks for batch in server.held), running)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    server.looks = 1
    ran = prefgen(*command, "--resume")
    assert ran.code == 0, ran.err
    assert not server.asked_twice
    whole = generating(server, tmp_path, provider, "whole")
    assert prefgen(*whole[:-1], tmp_path / "other.sqlite").code == 0
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")


@both
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_the_intent_and_the_receipt(
    provider: str, when: str, server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    pairs = ({"id": n, "prompt": f"p{n}", "response_a": "a b c", "response_b": "d"} for n in range(8))
    command = [
        "judge", write_prompts(tmp_path / "pairs.jsonl", pairs), "--judge", spec(server, provider, "judge"),
        "--out", tmp_path / "verdicts.jsonl", "--ledger", tmp_path / "ledger.sqlite", "--batch",
        "--batch-poll", "0.1",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, command)], env={**os.environ, "DIE": when}, check=False
    )
    assert done.returncode == 9
    assert len(server.held) == (when == "after")
    ran = prefgen(*command)
    assert ran.code == 0, ran.err
    assert ("sent by an interrupted run" in ran.err) == (when == "after")
    assert len(server.held) == 1
    assert not server.asked_twice
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == 16


def test_ctrl_c_leaves_the_batch_and_says_so(server: BatchServer, prefgen: Runner, tmp_path: Path) -> None:
    server.looks = 1_000_000
    command = generating(server, tmp_path, "openai")
    running = started(command)
    until(lambda: any(batch.looks for batch in server.held), running)
    begun = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert told.count("1 batch with 7 requests still at") == told.count("at the provider") == 1
    assert time.monotonic() - begun < 25
    # Without --batch they are not waited for, which costs money: so it is said.
    ran = prefgen(*(item for item in command if item != "--batch"), "--resume")
    assert ran.code == 0
    assert "stand in open batches" in ran.err


def test_two_processes_send_each_question_once(server: BatchServer, tmp_path: Path) -> None:
    server.looks = 4
    running = [started(generating(server, tmp_path, "openai", out)) for out in ("one", "other")]
    told = [each.communicate(timeout=120)[1] for each in running]
    assert [each.returncode for each in running] == [0, 0], told
    assert not server.asked_twice
    assert tables(tmp_path / "one") == tables(tmp_path / "other")


def test_a_budget_pays_what_it_can_and_the_rest_on_resume(
    server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    command = generating(server, tmp_path, "openai")
    ran = prefgen(*command, "--max-requests", 5)
    assert ran.code == 4
    assert 0 < sum(server.sizes) <= 5
    assert prefgen(*command, "--resume").code == 0
    assert not server.asked_twice


def test_a_batch_is_booked_at_its_price(server: BatchServer, prefgen: Runner, tmp_path: Path) -> None:
    """The table's prices are for the providers' own addresses: here one stands in the user's table."""
    prices = {spec(server, "openai", name): Price(1.0, 10.0, batch=0.5) for name in ("writer", "judge")}
    listed = replace(prices[spec(server, "openai", "judge")], batch=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.judging.parse_prices", lambda pairs: prices)
        ran = prefgen(*generating(server, tmp_path, "openai"), "--json")
    assert ran.code == 0, ran.err
    usage, quote = ran.result["usage"], ran.result["quote"]
    whole = listed.cost(usage["input_tokens"], usage["output_tokens"])
    # The pilot of the quote and the first questions were asked directly.
    share = sum(server.sizes) / (sum(server.sizes) + len(server.direct))
    assert 0.5 < share < 0.95
    assert usage["cost_usd"] == pytest.approx(whole * (1 - share / 2), rel=0.05)
    assert quote["cost_usd"]["low"] <= usage["cost_usd"] * 1.1
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        booked = ledger.read("SELECT sum(cost_usd), sum(requests) FROM spending")
    assert booked == [(pytest.approx(usage["cost_usd"]), usage["requests"])]


def test_no_more_than_the_cap_is_sent_and_a_resume_pays_the_rest(
    server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    prices = {spec(server, "openai", name): Price(1.0, 10.0, batch=0.5) for name in ("writer", "judge")}
    some_prompts(tmp_path / "p.jsonl", 30)
    command = [*generating(server, tmp_path, "openai"), "--max-tokens", 64, "--judge-max-tokens", 64]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.judging.parse_prices", lambda pairs: prices)
        whole = prefgen(
            *command[:3], tmp_path / "whole", *command[4:], "--ledger", tmp_path / "other", "--json"
        )
        cost = whole.result["usage"]["cost_usd"]
        server.sent.clear()
        ran = prefgen(*command, "--max-cost", 0.6 * cost)
        assert ran.code == 4, ran.err
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            assert 0 < ledger.read("SELECT sum(cost_usd) FROM spending")[0][0] <= 0.6 * cost
        ran = prefgen(*command, "--max-cost", 4 * cost, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert not server.asked_twice
    assert ran.result["usage"]["cost_usd"] == pytest.approx(cost, rel=0.3)


def test_calibrate_asks_each_repeat_anew_through_batches(
    server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    labels = (
        {"id": n, "prompt": f"p{n}", "response_a": "a b c", "response_b": "d", "label": "a"}
        for n in range(12)
    )
    ran = prefgen(
        "calibrate", write_prompts(tmp_path / "labels.jsonl", labels), "--judge",
        spec(server, "openai", "judge"), "--out", tmp_path / "c", "--repeats", 2, "--batch",
        "--batch-poll", 0.1, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert sorted(server.sizes) == [23, 24]
    assert max(server.sent.values()) == 2


def test_failures_in_a_batch_are_counted_and_owed(
    server: BatchServer, prefgen: Runner, tmp_path: Path
) -> None:
    refused = {"error": {"message": "not allowed", "type": "invalid_request_error"}}
    server.outcome = lambda number, body: (400, refused) if body["model"] == "judge" else OK
    command = generating(server, tmp_path, "openai")
    ran = prefgen(*command, "--json")
    assert ran.code == 3
    assert "api_error" in ran.err
    server.outcome = lambda number, body: OK
    ran = prefgen(*command, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["counts"]["failures"] == {}

"""What a run spends: capped, counted over kills and resumptions, told by role and by pair."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from running import FAKES, Ran, Runner, process, some_prompts

from prefgen.ledger import Ledger
from prefgen.prices import Price

WRITER, JUDGE = Price(10.0, 50.0), Price(20.0, 100.0)
PRICED = ("--price", "scripted/writer=10,50", "--price", "scripted/judge=20,100")


def command(folder: Path, out: str, *more: object) -> list[str]:
    given = [
        "generate", folder / "p.jsonl", *FAKES, *PRICED, "--n", 4, "--max-tokens", 40, "--out", folder / out,
    ]  # fmt: skip
    return [str(item) for item in (*given, "--ledger", folder / f"{out}.sqlite", "--json", *more)]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    prefgen = str(Path(sys.executable).with_name("prefgen"))
    return subprocess.Popen(
        [prefgen, *arguments], env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def count(path: Path) -> int:
    """Answers in a ledger that may not be made yet."""
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def booked(path: Path) -> dict[str, tuple[int, int, float]]:
    """(tokens in, tokens out, dollars) by model, of the table of spending."""
    with Ledger(path) as ledger:
        found = ledger.read("SELECT model, input_tokens, output_tokens, cost_usd FROM spending")
    return {model: (read, written, round(cost, 9)) for model, read, written, cost in found}


def answered(path: Path) -> dict[str, tuple[int, int, float]]:
    """The same, worked out from the answers that stand in the ledger."""
    found: dict[str, tuple[int, int, float]] = {}
    with Ledger(path) as ledger:
        kept = ledger.read("SELECT model, value FROM answers")
        values = [(model, ledger.unpack(value)) for model, value in kept]
    for name, price in (("scripted/writer", WRITER), ("scripted/judge", JUDGE)):
        mine: list[Any] = [value for model, value in values if model == name]
        read = sum(value["input_tokens"] for value in mine)
        written = sum(value["output_tokens"] for value in mine)
        if mine:
            found[name] = (read, written, round(price.cost(read, written), 9))
    return found


def test_spending_is_exact_after_every_kill_and_the_manifest_tells_the_whole_run(tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 24)
    whole = process(*command(tmp_path, "whole")).result
    ledger, draw, kills = tmp_path / "killed.sqlite", random.Random(5), 0
    slow = command(tmp_path, "killed", "--engine-arg", "latency=0.02", "--concurrency", 4)
    for _ in range(30):
        run = start([*slow, *(["--resume"] if (tmp_path / "killed").exists() else [])])
        if kills < 3:
            more = count(ledger) + draw.randint(1, 60)
            while run.poll() is None and count(ledger) < more:
                time.sleep(0.005)
            run.kill()
        out, err = run.communicate(timeout=120)
        if run.returncode != -signal.SIGKILL:
            break
        kills += 1
        assert booked(ledger) == answered(ledger)
    assert run.returncode == 0, err
    assert kills >= 2
    assert booked(ledger) == answered(ledger) == booked(tmp_path / "whole.sqlite")
    told = Ran(0, out, err).result["usage"]
    for name in ("requests", "input_tokens", "output_tokens", "unanswered_usd"):
        assert told[name] == whole["usage"][name], name
    assert told["cost_usd"] == pytest.approx(whole["usage"]["cost_usd"])
    assert told["cost_usd"] == pytest.approx(sum(cost for _, _, cost in booked(ledger).values()))


def test_a_capped_run_stops_under_its_cap_and_goes_on_when_it_is_raised(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.generate.check_cap", lambda *told: None)  # It would refuse beforehand.
    some_prompts(tmp_path / "p.jsonl", 30)
    whole = prefgen(*command(tmp_path, "whole")).result
    cost, cap, stops = whole["usage"]["cost_usd"], 0.0, 0
    done = Ran(4, "", "")
    while done.code == 4 and cap < 3 * cost:
        cap += cost / 3
        done = prefgen(*command(tmp_path, "run", "--max-cost", cap, *(["--resume"] if stops else [])))
        spent = sum(cost for _, _, cost in booked(tmp_path / "run.sqlite").values())
        assert spent <= cap
        if done.code == 4:
            stops += 1
            assert re.search(r"is spent, and the next call may cost .*--resume .*--max-cost", done.err)
            assert re.search(r"of 30 prompts are finished; by the pace so far .* and \$\d", done.err)
            assert spent > cap - 0.1
            assert not (tmp_path / "run/manifest.json").exists()
    assert done.code == 0, done.err
    assert stops >= 3
    assert done.result["counts"] == whole["counts"]
    assert done.result["usage"]["cost_usd"] == pytest.approx(cost)
    by_role = done.result["usage"]["by_role"]
    assert by_role["policy"]["cost_usd"] + by_role["judge"]["cost_usd"] == pytest.approx(cost)
    assert by_role["policy"]["requests"] == 30
    pair = done.result["usage"]["cost_per_pair_usd"]
    assert pair == pytest.approx(cost / whole["counts"]["pairs"])
    assert done.result["prices"]["scripted/judge"]["source"] == "--price"
    page = (tmp_path / "run/report.html").read_text()
    assert "cost of a kept pair" in page
    assert '<th scope="row">Judge</th>' in page


def test_what_finishing_would_take_is_told(prefgen: Runner, tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 40)
    whole = prefgen(*command(tmp_path, "whole")).result["usage"]
    free = ("--price", "scripted/writer=0,0", "--price", "scripted/judge=0,0")
    half = ("--max-requests", whole["requests"] // 2, "--concurrency", 2)
    stopped = prefgen(*command(tmp_path, "run", *free, *half))
    assert stopped.code == 4
    words = r"(\d+) of 40 prompts are finished.*about ([\d,]+) more requests and \$0\.0000"
    found = re.search(words, stopped.err)
    assert found is not None, stopped.err
    assert 10 <= int(found[1]) <= 25
    finished = int(found[1])
    pace = (
        whole["requests"] // 2
    ) / finished  # What was begun and not finished is in it: the price is not low.
    assert int(found[2].replace(",", "")) == pytest.approx(pace * (40 - finished), rel=0.1)
    none = prefgen(*command(tmp_path, "none", *free, "--max-requests", 1))
    assert "no prompt of 40 is finished yet" in none.err


def test_one_model_in_both_roles_is_told_apart(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    done = prefgen(
        "generate", prompts, "--policy", "scripted/judge", "--policy", "scripted/writer", "--n", 2,
        "--judge", "scripted/judge", "--planted", 0, "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    by_role = done.result["usage"]["by_role"]
    assert by_role["policy"]["requests"] == 4 * 2
    assert by_role["judge"]["requests"] == done.result["counts"]["judgments"] > 0
    assert sum(role["requests"] for role in by_role.values()) == done.result["usage"]["requests"]


def test_what_was_paid_before_its_price_was_known_counts_at_the_price_given_later(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefgen.prices.LOCAL_PROVIDERS", ())
    prompts = some_prompts(tmp_path / "p.jsonl", 6)
    base = ("generate", prompts, *FAKES, "--n", 4, "--out", tmp_path / "run", "--json")
    assert prefgen(*base, "--max-requests", 40).code == 4
    capped = prefgen(*base, *PRICED, "--resume", "--max-cost", 1e-6)
    assert capped.code == 4
    done = prefgen(*base, *PRICED, "--resume", "--max-cost", 100)
    assert done.code == 0, done.err
    usage = done.result["usage"]
    whole = WRITER.cost(*(usage["by_role"]["policy"][name] for name in ("input_tokens", "output_tokens")))
    whole += JUDGE.cost(*(usage["by_role"]["judge"][name] for name in ("input_tokens", "output_tokens")))
    assert usage["cost_usd"] == pytest.approx(whole)


def test_a_reward_model_that_costs_by_the_token_cannot_be_capped(prefgen: Runner, tmp_path: Path) -> None:
    reward = "openai/x@http://127.0.0.1:9/v1"
    models = ("--policy", "scripted/writer", "--reward-model", reward)
    prompts = some_prompts(tmp_path / "p.jsonl")
    base = ("generate", prompts, *models, "--out", tmp_path / "run", "--max-cost", 1)
    refused = prefgen(*base, "--price", f"{reward}=1,1")
    assert refused.code == 2
    assert "scores without a count of tokens" in refused.err
    assert f"the price of {reward} is not known" in prefgen(*base).err


def test_a_run_directory_begun_before_there_were_ids_is_given_one(prefgen: Runner, tmp_path: Path) -> None:
    some_prompts(tmp_path / "p.jsonl", 5)
    assert prefgen(*command(tmp_path, "run", "--max-requests", 20)).code == 4
    (tmp_path / "run/run.json").unlink()
    (tmp_path / "run/state.json").write_text('{"attempt": 2}')
    done = prefgen(*command(tmp_path, "run", "--resume"))
    assert done.code == 0, done.err
    assert (tmp_path / "run/run.json").exists()
    whole = prefgen(*command(tmp_path, "whole")).result["usage"]
    assert 0 < done.result["usage"]["requests"] <= whole["requests"] - 15

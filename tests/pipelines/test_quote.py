"""The quote: what it says, that it is paid once, that it comes true, and what it refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from running import FAKES, Ran, Runner, some_prompts

from pipelines.quote import Figures, Range, Tally, dollars, total

PRICED = ("--price", "scripted/writer=10,50", "--price", "scripted/judge=20,100")
"""A judge's question has some 250 words and one word of answer, so that a run costs cents."""
NOTHING = {"policy": 0, "judge": 0}


def test_the_interval_by_hand() -> None:
    # Mean 4, s = 2, k = 3: t(2) at 95% is 2.920; half = 2.920 × 0.5 × √(1/3 + 1/6) = 1.0324.
    found = total([2.0, 4.0, 6.0], rest=6, so_far=10.0)
    assert found.likely == 10 + 24
    assert found.low == pytest.approx(10 + 24 * np.exp(-1.0324), abs=0.01)
    assert found.high == pytest.approx(10 + 24 * np.exp(1.0324), abs=0.01)
    assert total([4.0, 4.0], 5, 0.0).high == pytest.approx(20 * np.exp(0.05))
    assert total([3.0], 2, 3.0) == Range(None, 9.0, None)
    assert total([3.0, 5.0], 0, 8.0) == Range(8.0, 8.0, 8.0)
    assert total([0.0, 0.0], 5, 0.0) == Range(0.0, 0.0, 0.0)


def test_the_interval_holds_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(3)
    held = Counter[float]()
    for spread in (0.2, 0.5):
        for costs in np.exp(spread * draw.standard_normal((400, 300))):
            found = total(costs[:8].tolist(), 292, 0.0)
            assert found.low is not None
            assert found.high is not None
            held[spread] += found.low <= costs[8:].sum() <= found.high
    assert 0.85 < held[0.2] / 400 < 0.95
    assert 0.80 < held[0.5] / 400 < 0.95


def test_figures_by_hand() -> None:
    def tallies(policy: int, judge: int) -> dict[str, Tally]:
        return {"policy": Tally(policy, cost_usd=policy / 10), "judge": Tally(judge, cost_usd=None)}

    used = {
        "policy": {"requests": 3, "cost_usd": 0.3},
        "judge": {"requests": 20, "cost_usd": None},
    }
    figures = Figures(
        [tallies(1, 6), tallies(2, 8)],
        tallies(1, 10),
        dict.fromkeys(used, 4.0),
        dict.fromkeys(used, 2.0),
        used,
    )
    # 23 so far, 4 × 8.5 for the rest, 2 × 4 for two more planted prompts.
    calls = figures.range_of("calls", ["policy", "judge"])
    assert calls is not None
    assert calls.likely == 23 + 34 + 8
    assert figures.likely("calls", "policy") == 3 + 6
    assert figures.likely("cost_usd", "policy") == pytest.approx(0.3 + 0.6)
    assert figures.likely("cost_usd", "judge") is None
    assert figures.range_of("cost_usd", ["policy", "judge"]) is None


def test_what_is_known_of_one_role_leaves_the_other_to_pay() -> None:
    pilot = [{"policy": Tally(1), "judge": Tally(6)}, {"policy": Tally(2), "judge": Tally(8)}]
    used = {role: {"requests": 0} for role in ("policy", "judge")}
    figures = Figures(pilot, pilot[0], {"policy": 0.0, "judge": 4.0}, {"policy": 0.0, "judge": 0.0}, used)
    assert figures.likely("calls", "policy") == 0
    assert figures.range_of("calls", ["policy", "judge"]) == total([6, 8], 4, 0)


def test_money_is_shown_in_figures_that_mean_something() -> None:
    assert [dollars(value) for value in (0, 0.00123, 1.5, 1234.567)] == [
        "$0.0000",
        "$0.0012",
        "$1.50",
        "$1,234.57",
    ]


def generate(prefgen: Runner, tmp_path: Path, *more: object, out: str = "run") -> Ran:
    prompts = tmp_path / "p.jsonl"
    if not prompts.exists():
        some_prompts(prompts, 60)
    return prefgen("generate", prompts, *FAKES, *PRICED, "--n", 4, "--out", tmp_path / out, "--json", *more)


def test_it_comes_true_and_is_paid_once(prefgen: Runner, tmp_path: Path) -> None:
    done = generate(prefgen, tmp_path)
    assert done.code == 0, done.err
    manifest = done.result
    quote, usage = manifest["quote"], manifest["usage"]
    assert "60 prompts take" in done.err
    assert (quote["prompts"], quote["pilot"], quote["known_share"]) == (60, 8, NOTHING)
    assert quote["cost_usd"]["low"] < usage["cost_usd"] < quote["cost_usd"]["high"]
    for what, counted in (("calls", "requests"), ("input_tokens", "input_tokens")):
        assert quote[what]["likely"] == pytest.approx(usage[counted], rel=0.1)
    for role in ("policy", "judge"):
        likely = quote["by_role"][role]["cost_usd"]
        assert likely == pytest.approx(usage["by_role"][role]["cost_usd"], rel=0.15)
    own = generate(
        prefgen, tmp_path, "--price", "scripted/writer=0,0", "--price", "scripted/judge=0,0",
        "--ledger", tmp_path / "own.sqlite", out="own",
    )  # fmt: skip
    assert own.result["quote"] is None, "what costs nothing needs no quote"
    assert own.result["usage"]["requests"] == usage["requests"]
    assert own.result["counts"] == manifest["counts"]


def test_asked_for_alone_it_leaves_nothing_and_says_the_same_again(prefgen: Runner, tmp_path: Path) -> None:
    first = generate(prefgen, tmp_path, "--quote")
    assert first.code == 0, first.err
    assert not (tmp_path / "run").exists()
    again = generate(prefgen, tmp_path, "--quote")
    told, told_again = first.result["quote"], again.result["quote"]
    assert told_again["by_role"]["judge"]["calls"] < told["by_role"]["judge"]["calls"], "the pilot is paid"
    assert told_again["seconds_at_most"] is None
    run = generate(prefgen, tmp_path)
    assert run.code == 0, run.err
    own = generate(prefgen, tmp_path, "--ledger", tmp_path / "own.sqlite", out="own")
    assert own.result["usage"]["cost_usd"] < told["cost_usd"]["high"]
    assert run.result["usage"]["cost_usd"] < told_again["cost_usd"]["high"]
    text = prefgen("generate", tmp_path / "p.jsonl", *FAKES, "--out", tmp_path / "x", "--quote")
    assert text.out.startswith("60 prompts take")
    assert "$0.0000" in text.out


def test_what_the_ledger_knows_is_not_quoted(prefgen: Runner, tmp_path: Path) -> None:
    generate(prefgen, tmp_path)
    again = generate(prefgen, tmp_path, out="again").result
    assert again["quote"]["known_share"] == {"policy": 1, "judge": 1}
    assert again["quote"]["cost_usd"] == {"low": 0, "likely": 0, "high": 0}
    assert again["usage"]["cost_usd"] == 0


def test_another_judge_is_quoted_in_full_though_the_responses_are_known(
    prefgen: Runner, tmp_path: Path
) -> None:
    generate(prefgen, tmp_path)
    other = generate(prefgen, tmp_path, "--constitution", "concise-expert", out="other").result
    quote, usage = other["quote"], other["usage"]
    assert quote["known_share"] == {"policy": 1, "judge": 0}
    assert quote["by_role"]["policy"]["cost_usd"] == usage["by_role"]["policy"]["cost_usd"] == 0
    assert quote["cost_usd"]["low"] < usage["cost_usd"] < quote["cost_usd"]["high"]


def test_a_resumed_run_is_quoted_for_what_is_left_of_half_judged_prompts(
    prefgen: Runner, tmp_path: Path
) -> None:
    stopped = generate(prefgen, tmp_path, "--max-requests", 400)
    assert stopped.code == 4, stopped.err
    done = generate(prefgen, tmp_path, "--resume", "--max-requests", 10_000).result
    quote, usage = done["quote"], done["usage"]
    assert 0.3 < quote["known_share"]["judge"] < quote["known_share"]["policy"]
    assert quote["calls"]["likely"] == pytest.approx(usage["requests"], rel=0.05)


def test_a_cap_under_the_least_of_the_quote_is_refused_before_more_is_paid(
    prefgen: Runner, tmp_path: Path
) -> None:
    told = generate(prefgen, tmp_path, "--quote", "--ledger", tmp_path / "q.sqlite").result["quote"]
    cap = told["cost_usd"]["low"] / 2
    done = generate(prefgen, tmp_path, "--max-cost", cap)
    assert (done.code, done.out) == (4, "")
    assert "will not do: 60 prompts take" in done.err
    assert "--resume" in done.err
    run = generate(prefgen, tmp_path, "--max-cost", told["cost_usd"]["high"] * 2, "--resume")
    assert run.code == 0, run.err
    whole = generate(prefgen, tmp_path, "--ledger", tmp_path / "own.sqlite", out="own")
    assert run.result["usage"]["cost_usd"] == pytest.approx(whole.result["usage"]["cost_usd"])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_file_of_few_prompts_is_quoted_too(count: int, prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "few.jsonl", count)
    done = prefgen("generate", prompts, *FAKES, *PRICED, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert done.result["quote"]["cost_usd"]["likely"] > 0
    assert "prompts take" in done.err or count == 1


def test_an_unknown_price_is_unknown_in_the_quote(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefgen.prices.LOCAL_PROVIDERS", ())
    prompts = some_prompts(tmp_path / "p.jsonl", 8)
    done = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run", "--quote", "--json")
    assert done.result["quote"]["cost_usd"] is None
    assert done.result["quote"]["calls"]["likely"] > 0
    refused = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run", "--max-cost", 1)
    assert refused.code == 2
    assert "the price of scripted/writer is not known" in refused.err
    assert "--price scripted/writer=IN,OUT" in refused.err
    assert not (tmp_path / "run").exists()

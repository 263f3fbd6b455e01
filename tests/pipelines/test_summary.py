"""What a run prints at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reporting import publish, some_usage, versus
from running import FAKES, Runner, some_prompts

from pipelines.summary import run_summary
from prefgen.candidate import Candidate
from prefgen.messages import user
from prefgen.prompt import Prompt
from prefgen.sampling import Sampled


def manifest_of(run: Path, *made: Any, **options: Any) -> dict[str, Any]:
    publish(run, made, **options)
    told: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return told


def test_every_line_of_it(tmp_path: Path) -> None:
    alone = (Candidate("p4", "one", "test/x", 0),)
    usage = some_usage(
        cost_usd=12.5,
        requests=11,
        cached_requests=2,
        input_tokens=4000,
        cached_tokens=1000,
        output_tokens=80,
        by_role={"policy": {"cost_usd": 2.5}, "judge": {"cost_usd": 10.0}},
        cost_per_pair_usd=6.25,
    )
    manifest = manifest_of(
        tmp_path / "run",
        versus("p1", (3.0, 1.0), (30, 10)),
        versus("p2", (2.0, 2.0), (20, 30)),
        versus("p3", (1.0, -0.6)),
        (Prompt("p4", user("Alone?")), Sampled(alone), []),
        versus("p5", (1.0, None)),
        usage=usage,
        test_share=0,
    )
    assert (
        run_summary(Path("runs/first"), manifest)
        == """\
5 prompts → 9 candidates → 7 judgments → 2 pairs, 4 KTO rows
look at    12.5% of the calls gave no usable answer; most often judging: the reply could not be read.
           No label of a person stands behind the confidence: label some pairs, then prefgen calibrate.
kept       2 of 4 pairs looked at (50%); with confidence ≥ 0.75
dropped    1 of the prompts had fewer than two responses, 1 without a usable judgment, 1 below the confidence
           threshold
lengths    chosen 25 characters, rejected 20; chosen is the longer one in 50%; Cohen’s d +0.45
position   71.4% of the verdicts for the response shown first; same verdict in both orders 66.7%; lean +0.60
           log-odds, averaged out
failed     1 judging: the reply could not be read
calls      11 paid, 2 from the ledger; 4,000 tokens read (25% from a prompt cache), 80 written
cost       $12.50; writer of responses $2.50; judge $10.00; $6.25 a kept pair
time       5.0 min writing and judging
written    runs/first: dpo/ (2 train, 0 test), kto/ (4 train, 0 test), report.html, README.md; 1 pair for
           people to decide in undecided.parquet"""
    )


def test_it_stays_under_thirty_lines(tmp_path: Path) -> None:
    """With everything there is to say, in long words."""
    manifest = manifest_of(tmp_path / "run", versus("p1", (3.0, 1.0)))
    name = "openai/a-model-with-a-long-name-" + "x" * 60
    view = {"n": 100, "same": 0.4, "decided": 90, "opposed": 0.6, "kappa": 0.1}
    kinds = ("orders", "principles", "judges", "refusal", "repeated", "length", "audit")
    manifest["found"] |= {
        "judges": [view | {"one": name, "other": f"{name}-{n}"} for n in range(4)],
        "principles": [
            view | {"one": "kind", "other": "true"},
            view | {"one": "a", "other": "b", "same": 0.9},
        ],
        "suspicious": dict.fromkeys(kinds, 12),
    }
    manifest["counts"] |= {
        "failures": dict.fromkeys(("parse_failure", "refusal", "truncated", "sampling_timeout"), 900),
        "dropped": dict.fromkeys(("margin", "tie", "length_gap", "over_max_pairs", "inconsistent", "x y"), 5),
        "asked": {name: 3, f"{name}-2": 2}, "spared": {"candidates": 3, "comparisons": 9},
    }  # fmt: skip
    told = run_summary(Path("runs") / ("x" * 80), manifest).splitlines()
    assert len(told) < 30
    assert told[-1].startswith(("written", " "))
    assert max(map(len, told)) <= 110
    assert any("more things, in report.html" in line for line in told)
    assert "principles two principles give the same verdict on 40% (kind, true) to 90% of the pairs" in told


def test_of_an_old_run_less_is_known(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "run", versus("p1", (3.0, 1.0)))
    del manifest["found"]
    told = run_summary(tmp_path, manifest)
    assert "kept " in told
    assert "lengths" not in told


def test_generate_pair_and_report_print_the_same_kind(tmp_path: Path, prefgen: Runner) -> None:
    prompts, run = some_prompts(tmp_path / "p.jsonl"), tmp_path / "run"
    done = prefgen("generate", prompts, *FAKES, "--out", run)
    assert done.code == 0, done.err
    assert prefgen("report", run).out == done.out
    assert prefgen("report", run, "--json").result == json.loads((run / "manifest.json").read_text())
    stricter = prefgen("pair", run, "--min-confidence", 0.99, "--out", tmp_path / "pair")
    for out in (done.out, stricter.out):
        assert [line.split()[0] for line in out.splitlines() if line[0] != " "][1:] == [
            "look", "kept", "dropped", "lengths", "position", "failed", "calls", "cost", "time", "written",
        ]  # fmt: skip

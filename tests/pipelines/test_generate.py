"""generate, whole, with scripted models: what is published, and what stops a run."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from running import FAKES, Runner, files, process, rows, some_prompts, write_prompts

from judges.judge import Judge
from pipelines.console import Console
from pipelines.generate import generate
from pipelines.generate_config import GenerateConfig
from prefgen.candidate import Candidate
from prefgen.completion import Completion, CompletionRequest, Reply
from prefgen.engine import Limits
from prefgen.errors import RateLimitError, RequestRefusedError, TransientError
from prefgen.judgment import JudgeResult, Judgment
from prefgen.messages import Messages
from prefgen.models.scripted import ScriptedModel, open_scripted
from prefgen.prompt import Prompt

CONTRACT = {
    "candidates.parquet": "candidate_id prompt_id prompt response policy finish_reason n_tokens seed",
    "judgments.parquet": "prompt_id a_id b_id order judge principle status log_odds p_a verdict raw cost",
    "scores.parquet": "candidate_id score n_judgments",
    "dpo/train.parquet": "prompt chosen rejected pair_id prompt_id chosen_id rejected_id margin confidence",
    "dpo/test.parquet": "prompt chosen rejected pair_id prompt_id chosen_id rejected_id margin confidence",
    "kto/train.parquet": "prompt completion label prompt_id candidate_id score",
    "kto/test.parquet": "prompt completion label prompt_id candidate_id score",
}
MANIFEST = {
    "": "prefgen_version command config seed models inputs counts usage expected_label_precision timings "
    "environment",
    "counts": "prompts candidates comparisons judgments pairs kto_rows failures dropped",
    "usage": "requests cached_requests input_tokens output_tokens cost_usd",
}


def wrap_models(monkeypatch: pytest.MonkeyPatch, **models: Callable[[], Any]) -> None:
    """Puts models of the test's own behind `scripted/NAME`."""

    async def opened(text: str, options: Mapping[str, Any] | None = None, share: int = 1) -> Any:
        name = text.removeprefix("scripted/")
        return models[name]() if name in models else open_scripted(name, options)

    monkeypatch.setattr("pipelines.roles.open_model", opened)


def script(
    answer: Callable[[CompletionRequest, int], Any], spec: str = "scripted/writer", **more: Any
) -> Any:
    return lambda: ScriptedModel(answer, spec, **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run made by the installed command, looked at by several tests."""
    folder = tmp_path_factory.mktemp("finished")
    some_prompts(folder / "prompts.jsonl", 40)
    done = process(
        "generate", folder / "prompts.jsonl", *FAKES, "--out", folder / "run", "--json", "--test-share", 0.2,
        env={"PREFGEN_LEDGER": str(folder / "ledger.sqlite")},
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert json.loads(done.out) == json.loads((folder / "run" / "manifest.json").read_text())
    return folder / "run"


@pytest.mark.parametrize("name", CONTRACT)
def test_tables_hold_the_contracts_columns(finished: Path, name: str) -> None:
    assert set(CONTRACT[name].split()) <= set(pq.read_schema(finished / name).names)
    assert pq.read_table(finished / name).num_rows > 0


@pytest.mark.parametrize("name", MANIFEST)
def test_the_manifest_holds_the_contracts_keys(finished: Path, name: str) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    assert set(MANIFEST[name].split()) <= set(manifest[name] if name else manifest)


def test_the_manifest_says_what_is_there(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    counts = manifest["counts"]
    assert manifest["command"] == "generate"
    assert manifest["models"]["judge"]["spec"] == "scripted/judge"
    assert counts["prompts"] == 40
    for name, key in (("candidates", "candidates"), ("judgments", "judgments")):
        assert pq.read_table(finished / f"{name}.parquet").num_rows == counts[key]
    pairs = [row for split in ("train", "test") for row in rows(finished / "dpo" / f"{split}.parquet")]
    labelled = [row for split in ("train", "test") for row in rows(finished / "kto" / f"{split}.parquet")]
    assert (len(pairs), len(labelled)) == (counts["pairs"], counts["kto_rows"])
    ((path, checksum),) = manifest["inputs"].items()
    assert path.endswith(".jsonl")
    assert len(checksum) == 64


def test_a_local_models_prefix_cache_is_in_manifest_and_report(
    tmp_path: Path, prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedModel, "prefix_cache_hit_rate", 0.61234, raising=False)
    out = tmp_path / "run"
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    assert prefgen("generate", prompts, *FAKES, "--out", out).code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["models"]["judge"]["prefix_cache_hit_rate"] == 0.6123
    assert "61.2%" in (out / "report.html").read_text()


def test_a_finished_run_leaves_no_scraps(finished: Path) -> None:
    assert not [name for name in files(finished) if name.endswith(".part") or name.startswith(".work")]
    assert {"README.md", "report.html", "config.yaml", "manifest.json"} <= files(finished)


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_datasets_loads_the_run(
    finished: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    found = datasets.load_dataset(str(finished), name, cache_dir=str(tmp_path))
    assert set(found) == {"train", "test"}
    for split in found:
        assert found[split].num_rows == len(rows(finished / name / f"{split}.parquet"))
    assert found["train"][0]["prompt"][0]["role"] == "user"


def test_every_pair_stands_in_the_tables(finished: Path) -> None:
    texts = {row["candidate_id"]: row["response"] for row in rows(finished / "candidates.parquet")}
    scores = {row["candidate_id"]: row["score"] for row in rows(finished / "scores.parquet")}
    told = defaultdict(list)
    for row in rows(finished / "judgments.parquet"):
        told[row["a_id"], row["b_id"]].append(row["log_odds"])
    for row in rows(finished / "dpo" / "train.parquet"):
        assert row["chosen"] == [{"role": "assistant", "content": texts[row["chosen_id"]]}]
        assert row["rejected"] == [{"role": "assistant", "content": texts[row["rejected_id"]]}]
        assert scores[row["chosen_id"]] > scores[row["rejected_id"]]
        assert row["confidence"] >= 0.75
        pair = told.get((row["chosen_id"], row["rejected_id"])) or [
            -odds for odds in told[row["rejected_id"], row["chosen_id"]]
        ]
        assert len(pair) == 2
        assert row["margin"] == pytest.approx(sum(pair) / 2)


def test_the_test_share_is_about_right_and_no_prompt_straddles(finished: Path) -> None:
    split = {
        name: {row["prompt_id"] for row in rows(finished / "dpo" / f"{name}.parquet")}
        for name in ("train", "test")
    }
    kto = {
        name: {row["prompt_id"] for row in rows(finished / "kto" / f"{name}.parquet")}
        for name in ("train", "test")
    }
    assert not (split["train"] | kto["train"]) & (split["test"] | kto["test"])
    assert len(split["test"]) == pytest.approx(0.2 * 40, abs=2)


def test_near_duplicate_prompts_never_straddle(prefgen: Runner, tmp_path: Path) -> None:
    draw = random.Random(5)
    words = [
        f"{a}{b}"
        for a in ("par", "lam", "cof", "tab", "chi")
        for b in ("cel", "per", "fee", "let", "air", "nut")
    ]
    made = []
    for family in range(30):
        text = " ".join(draw.choice(words) for _ in range(40))
        made += [{"prompt": variant, "family": family} for variant in (text, text.upper(), f"{text} please")]
    draw.shuffle(made)
    prompts = write_prompts(tmp_path / "p.jsonl", made)
    done = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run", "--test-share", 0.3, "--n", 3)
    assert done.code == 0
    families = {
        split: {row["family"] for row in rows(tmp_path / "run" / "dpo" / f"{split}.parquet")}
        for split in ("train", "test")
    }
    assert families["test"]
    assert not families["train"] & families["test"]


def test_carried_columns(prefgen: Runner, tmp_path: Path) -> None:
    prompts = write_prompts(
        tmp_path / "p.jsonl",
        [
            {"prompt": "one two three", "id": "x", "n": 1, "mixed": 1, "big": 2**70, "margin": "m",
             "group": "g", "deep": {"a": [1]}},
            {"prompt": "four five six", "id": 7, "n": 2.5, "mixed": "s", "big": 1, "prompt_margin": True},
        ],
    )  # fmt: skip
    done = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run", "--min-confidence", 0.5)
    assert done.code == 0, done.err
    found = {
        row["prompt_id"]: row
        for split in ("train", "test")
        for row in rows(tmp_path / "run" / "dpo" / f"{split}.parquet")
    }
    first, second = found["x"], found["7"]
    assert (first["n"], second["n"]) == (1.0, 2.5)
    assert (first["mixed"], second["mixed"]) == ("1", '"s"')
    assert (first["big"], second["big"]) == (str(2**70), "1")
    assert (first["prompt_prompt_margin"], second["prompt_margin"]) == ("m", True)
    assert (first["group"], first["deep"]) == ("g", '{"a": [1]}')
    columns = {
        row["prompt_id"]: json.loads(row["columns"]) for row in rows(tmp_path / "run" / "candidates.parquet")
    }
    assert columns["x"]["big"] == 2**70


def test_equal_candidates_are_kept_once_and_judged_once(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["one two three four five six", " one two three four five six\n", "seven", "seven"]
    wrap_models(monkeypatch, writer=script(lambda request, sample: answers[sample]))
    done = prefgen(
        "generate",
        some_prompts(tmp_path / "p.jsonl", 3),
        *FAKES,
        "--n",
        4,
        "--out",
        tmp_path / "run",
        "--json",
    )
    assert done.code == 0, done.err
    counts = done.result["counts"]
    assert (counts["candidates"], counts["duplicates"], counts["comparisons"]) == (12, 6, 3)
    table = rows(tmp_path / "run" / "candidates.parquet")
    by_id = {row["candidate_id"]: row for row in table}
    for row in table:
        if row["duplicate_of"]:
            assert by_id[row["duplicate_of"]]["response"].strip() == row["response"].strip()


def test_several_policies(prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrap_models(
        monkeypatch,
        poet=script(lambda request, sample: f"roses are red number {sample} indeed", "scripted/poet"),
    )
    done = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl", 3), *FAKES, "--policy", "scripted/poet", "--n", 2,
        "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    models = done.result["models"]
    assert [models[role]["spec"] for role in ("policy", "policy_2")] == ["scripted/writer", "scripted/poet"]
    assert {row["policy"] for row in rows(tmp_path / "run" / "candidates.parquet")} == {
        "scripted/writer",
        "scripted/poet",
    }


def test_standard_format(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 3)
    done = prefgen("generate", prompts, *FAKES, "--format", "standard", "--out", tmp_path / "run")
    assert done.code == 0
    row = rows(tmp_path / "run" / "dpo" / "train.parquet")[0]
    assert all(isinstance(row[name], str) for name in ("prompt", "chosen", "rejected"))
    assert isinstance(rows(tmp_path / "run" / "kto" / "train.parquet")[0]["completion"], str)


@pytest.mark.parametrize(
    ("options", "judgments"),
    [
        (["--judging", "pointwise"], 3 * 3 * 5),
        (["--principles", "sample"], 3 * 3 * 2),
        (["--principles", "each"], 3 * 3 * 2 * 5),
        (["--no-both-orders"], 3 * 3),
        (["--evidence", "votes", "--votes", 3], 3 * 3 * 2),
        (["--evidence", "score"], 3 * 3 * 2),
        (["--evidence", "score", "--judging", "pointwise"], 3 * 3 * 5),
        (["--strategy", "all", "--max-pairs", 3, "--kto-labels", "threshold"], 3 * 3 * 2),
    ],
)
def test_ways_to_judge(prefgen: Runner, tmp_path: Path, options: list[Any], judgments: int) -> None:
    """Three prompts, three candidates each, five principles."""
    prompts = some_prompts(tmp_path / "p.jsonl", 3)
    done = prefgen("generate", prompts, *FAKES, "--n", 3, "--out", tmp_path / "run", "--json", *options)
    assert done.code == 0, done.err
    assert done.result["counts"]["judgments"] == judgments
    assert done.result["counts"]["pairs"] > 0
    principles = {row["principle"] for row in rows(tmp_path / "run" / "judgments.parquet")}
    assert (principles == {None}) == ("--principles" not in options and "--judging" not in options)


def test_a_reward_model(prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Words:
        spec = identity = "vllm/reward"

        async def score(self, messages: Messages, response: str) -> float:
            return float(len(set(response.split())))

        async def aclose(self) -> None:
            pass

    async def opened(*_: object) -> Words:
        return Words()

    monkeypatch.setattr("pipelines.roles.open_reward_model", opened)
    done = prefgen(
        "generate", some_prompts(tmp_path / "p.jsonl", 3), "--policy", "scripted/writer",
        "--reward-model", "vllm/reward", "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.result["counts"]["pairs"] > 0
    assert done.result["models"]["reward_model"]["spec"] == "vllm/reward"


def test_unfinished_candidates_are_not_judged_and_never_chosen(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        Completion("a long answer cut in the middle of", "length"),
        Completion(""),
        Completion("five words of good sense"),
        Completion("short"),
    ]
    wrap_models(monkeypatch, writer=script(lambda request, sample: answers[sample]))
    prompts = some_prompts(tmp_path / "p.jsonl", 3)
    base = ("generate", prompts, *FAKES, "--n", 4, "--json")
    plain = prefgen(*base, "--out", tmp_path / "a").result
    assert plain["counts"]["comparisons"] == 3
    asked = prefgen(*base, "--judge-unfinished", "--out", tmp_path / "b")
    assert asked.result["counts"]["comparisons"] == 18
    for row in rows(tmp_path / "b" / "dpo" / "train.parquet"):
        assert row["chosen"][0]["content"] == "five words of good sense"
    allowed = prefgen(*base, "--judge-unfinished", "--choose-truncated", "--out", tmp_path / "c")
    assert allowed.code == 0
    for row in rows(tmp_path / "c" / "dpo" / "train.parquet"):
        assert row["chosen"][0]["content"] == "a long answer cut in the middle of"


def test_json_and_quiet(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    loud = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "a")
    assert "prompts →" in loud.out
    assert loud.err
    quiet = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "b", "--json", "--quiet")
    assert quiet.err == ""
    assert quiet.result["counts"]["prompts"] == 2


def test_a_config_file_is_overruled_by_the_command_line(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    config = tmp_path / "c.yaml"
    config.write_text(
        f"prompts: {prompts}\npolicy: scripted/writer\njudge: scripted/judge\nn: 4\nmin-confidence: 0.6\n"
        f"principles: sample\nout: {tmp_path / 'run'}\n"
    )
    done = prefgen("generate", "--config", config, "--n", 3, "--json")
    assert done.code == 0, done.err
    used = done.result["config"]
    assert (used["n"], used["min_confidence"], used["principles"]) == (3, 0.6, "sample")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["n"] == 3


def test_a_finished_run_is_not_made_again(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    base = ("generate", prompts, *FAKES, "--out", tmp_path / "run", "--json")
    first = prefgen(*base)
    assert prefgen(*base).code == 2
    assert prefgen(*base, "--resume").result == first.result
    again = prefgen(*base, "--overwrite").result
    assert again["usage"]["requests"] == 0
    assert again["counts"] == first.result["counts"]


def tables(run: Path) -> dict[str, list[dict[str, Any]]]:
    names = ("candidates", "judgments", "scores", "dpo/train", "dpo/test", "kto/train", "kto/test")
    return {name: rows(run / f"{name}.parquet") for name in names}


def test_the_budget_stops_the_run_and_resuming_finishes_it_exactly(prefgen: Runner, tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 5)
    whole = prefgen(
        "generate", prompts, *FAKES, "--out", tmp_path / "whole", "--ledger", tmp_path / "w", "--json"
    )
    needed = whole.result["usage"]["requests"]
    part = ("generate", prompts, *FAKES, "--out", tmp_path / "run", "--ledger", tmp_path / "l", "--json")
    stops, budget = 0, needed // 3
    done = prefgen(*part, "--max-requests", budget)
    while done.code == 4:
        stops += 1
        assert "--resume" in done.err
        assert done.out == ""
        assert not (tmp_path / "run" / "manifest.json").exists()
        assert not (tmp_path / "run" / "candidates.parquet").exists()
        assert prefgen(*part, "--max-requests", budget, "--resume").code == 4, "it is the whole run's"
        budget += needed // 3
        done = prefgen(*part, "--max-requests", budget, "--resume")
    assert done.code == 0, done.err
    assert stops in (3, 4)
    assert done.result["usage"]["requests"] == needed
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")


def test_failed_calls_end_the_run_and_resuming_asks_for_them_again(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    fake = open_scripted("judge")

    def answer(request: CompletionRequest, sample: int) -> Any:
        if broken and "Customer 37 " in request.messages[0].content:
            return RequestRefusedError("400: not today")
        return fake._answer(request, sample)

    wrap_models(monkeypatch, judge=script(answer, "scripted/judge"))
    prompts = some_prompts(tmp_path / "p.jsonl", 6)
    base = ("generate", prompts, *FAKES, "--out", tmp_path / "run", "--planted", 0, "--json")
    first = prefgen(*base)
    assert first.code == 3
    assert "api_error: 30" in first.err
    assert "16.7%" in first.err
    assert not (tmp_path / "run" / "manifest.json").exists()
    failed = [row for row in rows(tmp_path / "run" / "judgments.parquet") if row["status"] != "ok"]
    assert {(row["status"], row["verdict"], row["log_odds"]) for row in failed} == {("api_error", None, None)}
    assert {row["raw"] for row in failed} == {"400: not today"}
    broken = False
    second = prefgen(*base, "--resume")
    assert second.code == 0, second.err
    assert second.result["usage"]["requests"] == 6 + 6 * 30
    assert second.result["counts"]["failures"] == {}


def test_failures_below_the_gate_are_published_and_owed(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    fake = open_scripted("judge")

    def answer(request: CompletionRequest, sample: int) -> Any:
        if broken and "Customer 37 " in request.messages[0].content:
            return Completion("I would rather not.", "refusal", {})
        return fake._answer(request, sample)

    wrap_models(monkeypatch, judge=script(answer, "scripted/judge"))
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    base = ("generate", prompts, *FAKES, "--out", tmp_path / "run", "--planted", 0, "--json")
    first = prefgen(*base, "--max-failure-share", 0.5)
    assert first.code == 0, first.err
    assert first.result["counts"]["failures"] == {"refusal": 30}
    assert first.result["counts"]["dropped"] == {"judge_failure": 1}
    broken = False
    second = prefgen(*base, "--max-failure-share", 0.5, "--resume")
    assert second.result["counts"]["failures"] == {}
    assert second.result["counts"]["pairs"] == 4


def test_a_policy_that_fails_is_counted_apart(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_models(monkeypatch, writer=script(lambda request, sample: RequestRefusedError("400")))
    prompts = some_prompts(tmp_path / "p.jsonl", 2)
    done = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run")
    assert done.code == 3
    assert "sampling_api_error: 2" in done.err


def test_rate_limits_and_lost_connections_are_no_failures(
    prefgen: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    fake = open_scripted("judge")

    def answer(request: CompletionRequest, sample: int) -> Any:
        nonlocal calls
        calls += 1
        if calls % 7 == 3:
            return RateLimitError("429", retry_after=0.001)
        return TransientError("connection reset") if calls % 50 == 5 else fake._answer(request, sample)

    wrap_models(monkeypatch, judge=script(answer, "scripted/judge"))
    monkeypatch.setattr("pipelines.judging.Limits", partial(Limits, first_wait=0.001))
    prompts = some_prompts(tmp_path / "p.jsonl", 3)
    done = prefgen("generate", prompts, *FAKES, "--n", 3, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert done.result["counts"]["failures"] == {}
    assert done.result["usage"]["rate_limited"] > 0


class Events(ScriptedModel):
    """A fake that notes the prompt of each call, and can hold its answers back."""

    def __init__(self, name: str, log: list[tuple[str, str]], hold: Mapping[str, asyncio.Event]) -> None:
        fake = open_scripted(name)
        super().__init__(fake._answer, fake.spec)
        self._log, self._hold, self._name = log, hold, name

    async def complete(self, request: CompletionRequest) -> Reply:
        text = request.messages[-1].content
        self._log.append((self._name, text))
        for key, event in self._hold.items():
            if key in text:
                await event.wait()
        return await super().complete(request)


async def run_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str, count: int, **options: Any
) -> tuple[list[tuple[str, str]], asyncio.Event, asyncio.Task[dict[str, Any]]]:
    log, release = list[tuple[str, str]](), asyncio.Event()
    wrap_models(
        monkeypatch,
        writer=lambda: Events("writer", log, {held: release}),
        judge=lambda: Events("judge", log, {}),
    )
    config = GenerateConfig(
        prompts=some_prompts(tmp_path / "p.jsonl", count),
        out=tmp_path / "run",
        policy=("scripted/writer",),
        judge="scripted/judge",
        ledger=tmp_path / "l",
        n=2,
        planted=0,
        **options,
    )
    task = asyncio.create_task(generate(config, Console(quiet=True)))
    before = 0
    while not log or len(log) != before:  # Until nothing happens any more.
        before = len(log)
        await asyncio.sleep(0.4)
    return log, release, task


async def test_judging_starts_before_the_last_prompt_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, release, task = await run_held(tmp_path, monkeypatch, "Customer 185 ", 6)
    judged = {text for name, text in log if name == "judge"}
    assert len(judged) == 10  # All prompts but the one held back, both orders.
    release.set()
    assert (await task)["counts"]["prompts"] == 6


async def test_the_window_bounds_the_prompts_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concurrency 2 makes a window of 4, of which four are held: while the first prompt hangs, 15 more are
    begun."""
    log, release, task = await run_held(tmp_path, monkeypatch, "Customer 0 ", 30, concurrency=2)
    assert len({text for name, text in log if name == "writer"}) == 16
    release.set()
    assert (await task)["counts"]["prompts"] == 30


class Wrapped:
    """A judge whose results are tampered with, as a bug would."""

    def __init__(self, judge: Judge, tamper: Callable[..., list[JudgeResult]]) -> None:
        self._judge, self._tamper = judge, tamper
        self.name, self.weighing = judge.name, judge.weighing

    async def judge(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[JudgeResult]:
        return self._tamper(candidates, await self._judge.judge(prompt, candidates))


def never_undo_the_swap(candidates: Sequence[Candidate], results: list[JudgeResult]) -> list[JudgeResult]:
    return [
        replace(item, log_odds=-item.log_odds)
        if isinstance(item, Judgment) and item.provenance.order == "ba"
        else item
        for item in results
    ]


def shift_by_one(candidates: Sequence[Candidate], results: list[JudgeResult]) -> list[JudgeResult]:
    after = {
        one.id: other.id for one, other in zip(candidates, [*candidates[1:], candidates[0]], strict=True)
    }
    return [
        replace(item, a_id=after[item.a_id], b_id=after[item.b_id] if item.b_id else None) for item in results
    ]


def prefer_the_empty(candidates: Sequence[Candidate], results: list[JudgeResult]) -> list[JudgeResult]:
    empty = {item.id for item in candidates if item.empty}
    return [
        replace(item, log_odds=9.0 if item.a_id in empty else -9.0)
        if isinstance(item, Judgment) and {item.a_id, item.b_id} & empty
        else item
        for item in results
    ]


def leave_alone(candidates: Sequence[Candidate], results: list[JudgeResult]) -> list[JudgeResult]:
    return results


@pytest.mark.parametrize(
    ("tamper", "options", "kind"),
    [
        (never_undo_the_swap, [], "told the other way round"),
        (shift_by_one, [], "empty"),
        (shift_by_one, ["--judging", "pointwise"], "empty"),
        (prefer_the_empty, [], "empty"),
        (leave_alone, [], None),
        (leave_alone, ["--judging", "pointwise"], None),
        (leave_alone, ["--principles", "each"], None),
        (leave_alone, ["--no-both-orders"], None),
    ],
)
def test_planted_pairs_catch_a_judge_that_is_wired_wrong(
    prefgen: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tamper: Callable[..., list[JudgeResult]],
    options: list[str],
    kind: str | None,
) -> None:
    from pipelines import line as module

    sound = module.make_judge

    async def tampered(*arguments: Any) -> Wrapped:
        return Wrapped(await sound(*arguments), tamper)

    monkeypatch.setattr(module, "make_judge", tampered)
    prompts = some_prompts(tmp_path / "p.jsonl", 5)
    done = prefgen("generate", prompts, *FAKES, "--out", tmp_path / "run", *options)
    if kind is None:
        assert done.code == 0, done.err
        assert (tmp_path / "run" / "manifest.json").exists()
    else:
        assert done.code == 3
        assert "planted" in done.err
        assert kind in done.err
        assert not (tmp_path / "run" / "manifest.json").exists()
        assert not (tmp_path / "run" / "dpo").exists()
        assert (tmp_path / "run" / "planted.parquet").exists()


def test_help_and_version(prefgen: Runner) -> None:
    assert prefgen("--help").code == 0
    assert "--policy" in prefgen("generate", "--help").out
    assert prefgen("--version").out.startswith("prefgen, version ")


def test_every_option_has_help(prefgen: Runner) -> None:
    for name, field in GenerateConfig.model_fields.items():
        assert field.description, name


@pytest.mark.train
def test_trl_takes_the_datasets_unchanged(finished: Path, tmp_path: Path) -> None:
    import datasets
    from tiny_models import make_causal_lm
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    model = str(make_causal_lm(tmp_path / "model"))
    common: dict[str, Any] = {
        "output_dir": str(tmp_path / "trained"), "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none", "disable_tqdm": True, "max_steps": 2, "per_device_train_batch_size": 2,
        "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip
    dpo = datasets.load_dataset(str(finished), "dpo", cache_dir=str(tmp_path / "cache"))
    trainer = DPOTrainer(
        model, args=DPOConfig(**common), train_dataset=dpo["train"], eval_dataset=dpo["test"]
    )
    assert trainer.train().global_step == 2
    kto = datasets.load_dataset(str(finished), "kto", cache_dir=str(tmp_path / "cache"))
    weights = yaml.safe_load((finished / "kto" / "trainer.yaml").read_text())
    trainer = KTOTrainer(
        model, args=KTOConfig(**common, **weights), train_dataset=kto["train"], eval_dataset=kto["test"]
    )
    assert trainer.train().global_step == 2

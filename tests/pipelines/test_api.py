"""The commands as Python functions: called in a script, awaited where an event loop runs."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from people import simulated_labels
from pydantic import BaseModel
from running import some_prompts

import pipelines.api
import prefgen
from pipelines.api import calling
from pipelines.api.function import plain_function
from pipelines.api.notebook import NotebookConsole, console_for
from pipelines.api.rows import as_file
from pipelines.api.stub import STUB, stub
from pipelines.cli import COMMANDS
from pipelines.console import Console
from pipelines.train_stages import TrainStage
from prefgen.errors import InputError, RunDirectoryError

FAKES: dict[str, Any] = {"policy": "scripted/writer", "judge": "scripted/judge", "n": 3}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> prefgen.Run:
    folder = tmp_path_factory.mktemp("made")
    prompts = some_prompts(folder / "p.jsonl", 24)
    return prefgen.generate(prompts, out=folder / "run", ledger=folder / "ledger", **FAKES)


def awaited(call: Callable[[], Any]) -> Any:
    """The call made, and awaited, where a loop runs."""

    async def main() -> Any:
        job = call()
        assert isinstance(job, prefgen.Job)
        return await job

    return asyncio.run(main())


# ------------------------------------------------------------------------------------------------ the door


def test_public_names_are_pinned() -> None:
    assert set(prefgen.__all__) == {
        "generate", "quote", "judge", "calibrate", "pair", "audit", "evaluate", "revise", "train",
        "dpo_sweep", "rlaif", "convert", "report", "quickstart", "what_if", "why",
        "constitution_diff", "export",
        "Run", "Quote", "Verdicts", "Calibration", "Audit", "Evaluation", "Revision", "Training", "Sweep",
        "Loop", "Conversion", "Quickstart", "WhatIf", "Story", "ConstitutionDiff", "Export", "Result",
        "Estimate", "Job",
        "BudgetError", "GateError", "InputError", "PrefgenError", "UsageError", "__version__",
    }  # fmt: skip
    assert set(prefgen.__all__) <= set(dir(prefgen))
    for name in prefgen.__all__:
        assert getattr(prefgen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'generat'"):
        prefgen.generat  # type: ignore[attr-defined]  # noqa: B018


def test_every_command_is_a_function_but_those_of_the_terminal() -> None:
    of_the_terminal = {"ledger", "label", "init", "doctor", "completion"}
    assert set(COMMANDS) - {*of_the_terminal, "constitution"} <= set(prefgen._FUNCTIONS)


def test_no_module_of_prefgen_has_the_name_of_a_function() -> None:
    modules = {path.stem for path in (ROOT / "prefgen").iterdir()}
    assert not modules & {*prefgen._FUNCTIONS, *prefgen._RESULTS}


def test_the_door_is_light() -> None:
    code = "import prefgen, sys; print([name for name in sys.modules if name.startswith('pipelines')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_the_types_for_editors_are_those_of_the_options() -> None:
    assert STUB.read_text() == stub(), "write it anew: python -m pipelines.api.stub"


def test_help_lists_every_option() -> None:
    for name in prefgen._FUNCTIONS:
        function = getattr(prefgen, name)
        told = inspect.getdoc(function) or ""
        for option in inspect.signature(function).parameters:
            assert f"{option}: " in told
    parameters = inspect.signature(prefgen.generate).parameters
    assert next(iter(parameters)) == "prompts"
    assert parameters["min_confidence"].default == 0.75
    assert parameters["policy"].default is inspect.Parameter.empty


def test_a_checker_knows_what_a_call_gives(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "import prefgen\n"
        'run = prefgen.generate(["a"], policy="p", judge=["j"], out="r")\n'
        "reveal_type(run)\n"
        "async def main() -> None:\n"
        '    reveal_type(await prefgen.train("dpo", model="m", data=run, out="o"))\n'
        'prefgen.pair(run, min_confidense=0.9, out="x")\n'
        'prefgen.pair(run, strategy="worst", out="x")\n'
    )
    # Their types are large; what is looked at is ours.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-pandas.*,datasets.*]\nfollow_imports = skip\n"
        "follow_imports_for_stubs = true\nignore_missing_imports = true\n"
    )
    command = [sys.executable, "-m", "mypy", "user.py"]
    env = {"MYPYPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    told = [line.partition("user.py:")[2] for line in done.stdout.splitlines() if "user.py:" in line]
    assert told == [
        '3: note: Revealed type is "prefgen.Run"',
        '5: note: Revealed type is "prefgen.Training"',
        '6: error: Unexpected keyword argument "min_confidense" for "pair"; did you mean "min_confidence"?  '
        "[call-arg]",
        '6: note: "pair" defined in "prefgen"',
        '7: error: Argument "strategy" to "pair" has incompatible type "Literal[\'worst\']"; expected '
        "\"Literal['best-worst', 'best-random', 'best-2sigma', 'all']\"  [arg-type]",
    ], done.stdout + done.stderr
    assert "__init__.pyi" not in done.stdout


# --------------------------------------------------------------------------------------- called or awaited


def test_a_call_in_a_script_gives_the_result(made: prefgen.Run) -> None:
    assert isinstance(made, prefgen.Run)
    assert made.counts["prompts"] == 24
    assert asyncio.run(_itself(made)) is made


async def _itself(run: prefgen.Run) -> prefgen.Run:
    return await run


def test_the_same_call_where_a_loop_runs_waits_to_be_awaited(made: prefgen.Run, tmp_path: Path) -> None:
    out = tmp_path / "strict"

    async def main() -> prefgen.Run:
        job = prefgen.pair(made, min_confidence=0.99, out=out)
        assert isinstance(job, prefgen.Job)
        assert "await me" in repr(job)
        with pytest.raises(AttributeError, match=r"result = await prefgen.pair\(…\)"):
            job.pairs()
        assert not out.exists()
        run = await job
        assert repr(job) == "<prefgen.pair(…), awaited>"
        return run

    run = asyncio.run(main())
    assert isinstance(run, prefgen.Run)
    assert run.manifest["config"]["min_confidence"] == 0.99
    assert (run.pairs()["confidence"] >= 0.99).all()


async def test_jobs_are_coroutines_that_run_beside_each_other(tmp_path: Path) -> None:
    prompts = some_prompts(tmp_path / "p.jsonl", 4)
    jobs = [prefgen.generate(prompts, out=tmp_path / str(n), **FAKES) for n in range(2)]
    task = asyncio.create_task(cast("Coroutine[Any, Any, prefgen.Run]", jobs[0]))
    runs = await asyncio.gather(task, jobs[1])
    assert [run.counts["prompts"] for run in runs] == [4, 4]


async def test_a_job_that_is_never_awaited_is_warned_of(made: prefgen.Run, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"prefgen.pair\(…\) was never awaited") as told:
        prefgen.pair(made, out=tmp_path / "never")
    assert told[0].filename == __file__
    assert not (tmp_path / "never").exists()


async def test_a_cancelled_run_is_resumed(tmp_path: Path) -> None:
    given = FAKES | {"out": tmp_path / "run", "ledger": tmp_path / "ledger"}
    prompts = some_prompts(tmp_path / "p.jsonl", 12)
    job = prefgen.generate(prompts, engine_arg="latency=0.2", concurrency=4, **given)
    task = asyncio.create_task(cast("Coroutine[Any, Any, prefgen.Run]", job))
    while not (tmp_path / "run" / "config.yaml").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as stopped:
        await task
    assert stopped.value.__notes__ == [calling.KEPT]
    assert not (tmp_path / "run" / "manifest.json").exists()
    run = await prefgen.generate(prompts, engine_arg="latency=0", concurrency=4, resume=True, **given)
    assert run.counts["prompts"] == 12


class _Waits(BaseModel):
    pass


async def test_what_is_no_coroutine_runs_in_a_thread_that_a_cancel_ends() -> None:
    ended = threading.Event()
    begun = threading.Event()

    @plain_function(_Waits)
    def train(config: _Waits, console: Console, *, on_log: Callable[[Mapping[str, float]], None]) -> None:
        try:
            while True:
                begun.set()
                on_log({})
        finally:
            ended.set()

    task = asyncio.create_task(cast("Coroutine[Any, Any, None]", train()))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_of_tasks_that_fail_together_the_first_error_of_prefgen_is_raised() -> None:
    async def both() -> int:
        raise BaseExceptionGroup("both", [ValueError(), prefgen.BudgetError("stopped")])

    with pytest.raises(prefgen.BudgetError, match="stopped"):
        calling.call("job", both, both, resumes=True)


def test_an_interrupt_tells_how_to_go_on() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    async def never() -> int:
        raise AssertionError

    with pytest.raises(KeyboardInterrupt) as stopped:
        calling.call("job", interrupted, never, resumes=True)
    assert stopped.value.__notes__ == [calling.KEPT]


def test_a_call_leaves_the_garbage_collector_as_it_was(made: prefgen.Run, tmp_path: Path) -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    prefgen.generate(some_prompts(tmp_path / "p.jsonl", 2), out=tmp_path / "run", **FAKES)
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


# ------------------------------------------------------------------------------------------------ keywords


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"polcy": "x"}, "generate: no option 'polcy'\n  fix: did you mean 'policy'?"),
        ({"zzzz": 1}, "generate: no option 'zzzz'\n  fix: help(prefgen.generate) lists them"),
        ({}, "missing --policy: MODEL that writes candidates; several may be given."),
        (FAKES | {"n": 0}, "--n: Input should be greater than or equal to 1 (seen: 0)"),
        (FAKES | {"policy": object()}, "--policy: Input should be a valid string"),
        (FAKES | {"resume": "yes"}, "resume: expected True or False (seen: 'yes')"),
        (FAKES | {"prompts": {"a": 1}}, "prompts: a dict; expected a path, a list of texts or of rows"),
        (FAKES | {"prompts": ["a"], "out": None}, "prompts: rows are written beside the output"),
    ],
)
def test_a_wrong_keyword_is_told_as_on_the_command_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(prefgen.UsageError) as wrong:
        prefgen.generate(**{"prompts": "p.jsonl", "out": "r", **given})
    assert str(wrong.value).startswith(message)


def test_arguments_by_position() -> None:
    with pytest.raises(TypeError, match="takes 'prompts' by position, the others by name"):
        prefgen.generate("p.jsonl", "scripted/writer")  # type: ignore[misc]
    with pytest.raises(TypeError, match="multiple values for argument 'prompts'"):
        prefgen.generate("p.jsonl", prompts="q.jsonl")  # type: ignore[misc]


def test_a_config_file_holds_options_and_flags(made: prefgen.Run, tmp_path: Path) -> None:
    file = tmp_path / "pair.yaml"
    file.write_text(f"run: {made.path}\nout: {tmp_path / 'again'}\nmin_confidence: 0.9\noverwrite: true\n")
    for _ in range(2):  # The second needs the flag.
        run = prefgen.pair(config=file, min_confidence=0.95)
    assert run.manifest["config"]["min_confidence"] == 0.95
    with pytest.raises(RunDirectoryError):
        prefgen.pair(config=file, overwrite=False)


def test_train_knows_its_stages_and_their_options() -> None:
    with pytest.raises(prefgen.UsageError, match="no stage 'dpoo'; expected one of sft, reward, dpo"):
        prefgen.train("dpoo")  # type: ignore[arg-type]
    with pytest.raises(prefgen.UsageError, match=r"dpo-sweep is prefgen.dpo_sweep"):
        prefgen.train("dpo-sweep")  # type: ignore[arg-type]
    with pytest.raises(prefgen.UsageError, match="no option 'members'"):
        prefgen.train("dpo", model="m", data="d", out="o", members=2)
    with pytest.raises(prefgen.UsageError, match="nothing rewards"):
        prefgen.train("grpo", model="m", data="d", out="o")
    with pytest.raises(prefgen.UsageError, match="--accelerate ddp on the command line"):
        prefgen.train("sft", model="m", data="d", out="o", accelerate="ddp")


def test_train_hands_over_what_was_given(
    made: prefgen.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def train(self: TrainStage, config: Any, rewards: Any, console: Console, **more: Any) -> tuple[Any, str]:
        seen.append({"config": config, "rewards": rewards, **more})
        return {"stage": "fake"}, ""

    monkeypatch.setattr(TrainStage, "train", train)
    given: dict[str, Any] = {"model": "m", "out": tmp_path / "dpo"}
    trained = prefgen.train("dpo", data=made, lora=True, check_vllm=True, **given)
    assert isinstance(trained, prefgen.Training)
    assert (trained.path, trained.values) == (tmp_path / "dpo", {"stage": "fake"})
    assert seen[0]["config"].data == made.path
    assert seen[0]["config"].lora
    assert (seen[0]["rewards"], seen[0]["check_vllm"], seen[0]["on_log"]) == (None, True, None)
    awaited(lambda: prefgen.train("grpo", data=["a"], judge="scripted/judge", **given))
    assert json.loads(seen[1]["config"].data.read_text()) == {"prompt": "a"}
    assert seen[1]["rewards"].judge == ("scripted/judge",)
    assert seen[1]["on_log"] is not None


# ------------------------------------------------------------------------------------------ rows in memory

TEXTS = [f"What about topic {number * 31}?" for number in range(6)]


def _dataset() -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"prompt": text} for text in TEXTS])


@pytest.mark.parametrize(
    "rows",
    [
        TEXTS,
        [{"prompt": text} for text in TEXTS],
        ({"prompt": text} for text in TEXTS),
        pd.DataFrame({"prompt": TEXTS}),
        _dataset(),
    ],
    ids=["texts", "rows", "generator", "frame", "dataset"],
)
def test_rows_are_the_file_they_would_be(rows: Any, tmp_path: Path) -> None:
    written = as_file("prompts", rows, tmp_path / "run")
    assert written == as_file("prompts", TEXTS, tmp_path / "run")
    assert written.path.parent == tmp_path / "run.inputs"
    assert [json.loads(line)["prompt"] for line in written.text.splitlines()] == TEXTS


def test_a_run_of_rows_says_what_it_read_and_is_resumed_with_the_same_rows_only(tmp_path: Path) -> None:
    given = FAKES | {"out": tmp_path / "run"}
    run = prefgen.generate(TEXTS, **given)
    ((path, digest),) = run.manifest["inputs"].items()
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
    assert run.manifest["config"]["prompts"] == path
    assert prefgen.generate(list(TEXTS), resume=True, **given).manifest == run.manifest
    with pytest.raises(RunDirectoryError, match="prompts: was"):
        prefgen.generate(TEXTS[:-1], resume=True, **given)


def test_missing_values_of_a_frame_are_null(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt": ["a", "é"], "n": [1.5, None]})
    lines = as_file("prompts", frame, tmp_path).text.splitlines()
    assert [json.loads(line) for line in lines] == [{"prompt": "a", "n": 1.5}, {"prompt": "é", "n": None}]
    assert "é" in lines[1]


def test_a_row_that_json_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompts:2: a row that JSON cannot hold"):
        as_file("prompts", ["a", {"prompt": object()}], tmp_path)


# ------------------------------------------------------------------------------------------------- results


def test_the_tables_of_a_run(made: prefgen.Run) -> None:
    pairs = made.pairs()
    assert len(pairs) == made.counts["pairs"] > 0
    assert set(pairs["split"]) == {"train", "test"}
    assert len(made.kto()) == made.counts["kto_rows"]
    assert len(made.candidates()) == made.counts["candidates"]
    assert (made.judgments()["status"] == "ok").sum() >= made.counts["judgments"]
    assert set(made.scores()["candidate_id"]) == set(made.candidates()["candidate_id"])
    assert len(made.undecided()) == made.counts["unsure"]
    assert made.report is not None
    assert made.report.is_file()
    dataset = made.dataset("dpo")
    assert {split: len(dataset[split]) for split in dataset} == dict(pairs["split"].value_counts())


def test_two_runs_in_folders_of_one_name_are_two_datasets(tmp_path: Path) -> None:
    """`datasets` caches a folder by its name and the header of its card."""
    from datasets import load_dataset

    found = []
    for count in (6, 9):
        run = prefgen.generate(
            some_prompts(tmp_path / f"{count}.jsonl", count), out=tmp_path / str(count) / "run", **FAKES
        )
        loaded = load_dataset(str(run.path), "dpo", cache_dir=str(tmp_path / "cache"))
        found.append(sum(len(loaded[split]) for split in loaded))
        assert found[-1] == run.counts["pairs"] == sum(len(rows) for rows in run.dataset().values())
    assert found[0] < found[1]


def test_a_result_is_opened_by_its_path(made: prefgen.Run, tmp_path: Path) -> None:
    again = prefgen.Run(made.path)
    assert again.manifest == made.manifest
    assert str(again) == made.summary
    assert repr(again) == f"Run({str(made.path)!r})"
    with pytest.raises(InputError, match="not a run directory"):
        prefgen.Run(tmp_path)
    with pytest.raises(InputError, match="what prefgen calibrate wrote when it was done"):
        prefgen.Calibration(tmp_path)


def test_what_a_notebook_shows_is_inert(tmp_path: Path) -> None:
    class Hostile(prefgen.Result):
        @property
        def summary(self) -> str:
            return "<script>alert(1)</script>\x1b[31m"

    html = Hostile("<img src=x onerror=alert(1)>", {})._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;" in html


def test_the_other_jobs_give_what_their_commands_find(made: prefgen.Run, tmp_path: Path) -> None:
    labels = pd.read_json(simulated_labels(tmp_path / "l.jsonl", made.path, 24), lines=True)
    rows = labels.to_dict("records")
    calibration = prefgen.calibrate(rows, judge="scripted/judge", out=tmp_path / "cal")
    told = json.loads((tmp_path / "cal" / "calibration.json").read_text())
    assert calibration.agreement is not None
    assert calibration.agreement.value == told["agreement"]["value"]
    assert calibration.threshold == (told["selective"] or {}).get("threshold")
    curve = calibration.curve()
    assert list(curve) == ["threshold", "coverage", "precision"]
    assert curve["coverage"].iloc[-1] == 1
    assert curve["threshold"].is_monotonic_decreasing
    assert prefgen.Calibration(calibration.path).values == told

    verdicts = prefgen.judge(rows, judge="scripted/judge", out=tmp_path / "v.jsonl")
    assert "24 pairs judged" in verdicts.summary
    assert set(verdicts.verdicts()["verdict"]) <= {"a", "b", "tie"}

    calibrated = prefgen.pair(made, calibration=calibration, out=tmp_path / "calibrated", min_confidence=0.5)
    assert calibrated.manifest["calibration"]["file"] == str(calibration.path / "calibration.json")

    audited = prefgen.audit(made, out=tmp_path / "audit")
    assert audited.warnings == audited.values["warnings"]
    assert len(audited.suspicious()) <= made.counts["pairs"]
    assert audited.report is not None


def test_evaluate_and_convert_and_revise_and_quote(made: prefgen.Run, tmp_path: Path) -> None:
    answers = made.candidates().drop_duplicates("prompt_id")[["prompt_id", "response"]]
    answers.rename(columns={"prompt_id": "id"}).to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    prompts = made.candidates().drop_duplicates("prompt_id")[["prompt_id", "prompt"]]
    given: dict[str, Any] = {"baseline": str(tmp_path / "a.jsonl"), "judge": "scripted/judge"}
    asked = prompts.rename(columns={"prompt_id": "id"})
    found = prefgen.evaluate(asked, model="scripted/writer", out=tmp_path / "e", **given)
    assert found.win_rate.low <= found.win_rate.value <= found.win_rate.high
    assert len(found.annotations()) == found.values["n"]
    again = prefgen.evaluate(annotations=tmp_path / "e" / "annotations.jsonl")
    assert again.win_rate == found.win_rate
    assert len(again.annotations()) == found.values["n"]
    assert "written to" not in again.summary

    thumbs = [{"prompt": "a", "response": "b", "thumbs": 1}, {"prompt": "a", "response": "c", "thumbs": "?"}]
    converted = prefgen.convert(thumbs, to="kto", out=tmp_path / "kto.jsonl", max_failed=1)
    assert len(converted.rows()) == len(converted.rejected()) == 1

    revised = prefgen.revise(TEXTS, policy="scripted/writer", out=tmp_path / "revised", rounds=1)
    assert len(revised.demonstrations()) <= len(TEXTS)
    assert len(revised.rounds()) >= len(revised.pairs())

    quoted = prefgen.quote(TEXTS, out=tmp_path / "quoted", **FAKES)
    assert quoted.cost == 0
    assert "6 prompts take" in quoted.summary
    assert not (tmp_path / "quoted").exists()


def test_progress_in_a_notebook_is_one_bar_whose_text_is_inert(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, str]] = []

    class Handle:
        def update(self, shown: dict[str, str], *, raw: bool) -> None:
            drawn.append(shown)

    def display(shown: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        drawn.append(shown)
        return Handle()

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with NotebookConsole().progress("prompts", 2, lambda: "<b>\x1b[31m") as advance:
        advance()
        advance()
    assert '<progress value="0" max="2">' in drawn[0]["text/html"]
    assert '<progress value="2" max="2">' in drawn[-1]["text/html"]
    assert "&lt;b&gt;" in drawn[-1]["text/html"]
    assert "\x1b" not in drawn[-1]["text/html"] + drawn[-1]["text/plain"]
    count = len(drawn)
    with NotebookConsole(quiet=True).progress("prompts", 2, lambda: "") as advance:
        advance()
    assert len(drawn) == count


def test_a_script_is_silent_unless_told_otherwise() -> None:
    assert console_for(None).quiet
    assert not console_for(False).quiet


def test_report_writes_the_page_anew(made: prefgen.Run) -> None:
    assert made.report is not None
    made.report.unlink()
    again = awaited(lambda: prefgen.report(made))
    assert isinstance(again, prefgen.Run)
    assert again.report == made.report


def test_every_function_of_the_api_is_offered() -> None:
    for name in prefgen._FUNCTIONS:
        assert getattr(pipelines.api, name).__module__ == "prefgen"


def test_what_a_run_comes_to_and_how(made: prefgen.Run, tmp_path: Path) -> None:
    asked = awaited(lambda: prefgen.what_if(made, min_confidence=[0.7, 0.9], strategy="all"))
    settings = asked.settings()
    assert settings["pairs"].is_monotonic_decreasing
    assert len(settings) >= 2
    assert "strategy" in asked.summary
    pair = made.pairs()["pair_id"][0]
    story = prefgen.why(made, ids=[pair])
    assert str(story).startswith(f"{pair}: kept")
    found = prefgen.constitution_diff(a="support-tone", b="concise-expert")
    assert found.summary.startswith("support-tone (")
    assert found.flips().empty
    exported = prefgen.export(made, trainer="trl", out=tmp_path / "trl")
    assert prefgen.Export(exported.path).values["trainer"] == "trl"


def test_report_knows_what_a_directory_is(made: prefgen.Run, tmp_path: Path) -> None:
    prefgen.audit(made, out=tmp_path / "audit")
    assert isinstance(prefgen.report(tmp_path / "audit"), prefgen.Audit)

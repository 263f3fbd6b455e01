"""`prefgen doctor`: what is there, what was tested, and whether the models that are named work."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from running import Ran, Runner
from stub import stub
from tiny_models import NO_SYSTEM_TEMPLATE, SYSTEM_TEMPLATE, make_tokenizer

from pipelines.doctor import installation, machine, models
from pipelines.doctor.check import Check
from prefgen.models import scripted

ROOT = Path(__file__).parents[2]


def checks(ran: Ran) -> dict[str, dict[str, Any]]:
    """The checks of a --json answer by name."""
    return {check["name"]: check for check in ran.result["checks"]}


def test_a_healthy_machine_is_told_in_few_lines_with_exit_0(prefgen: Runner) -> None:
    done = prefgen("doctor")
    assert done.code == 0, done.out
    lines = done.out.splitlines()
    assert len(lines) <= 20
    assert lines[-1].startswith("no problems, ")
    for name in ("Python", "prefgen ", "[vllm]", "[train]", "[ray]", "[label]", "GPU", "keys", "ledger file"):
        assert any(line[9:].startswith(name) for line in lines), name
    told = prefgen("doctor", "--json").result
    assert told["ok"] is True
    assert {check["state"] for check in told["checks"]} <= {"ok", "note"}


# ------------------------------------------------------------------------------------------ the installation


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_tested_versions_are_those_of_the_lock(name: str) -> None:
    spec = importlib.util.spec_from_file_location("make_tested", ROOT / "data/tested/make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    shipped = (ROOT / "data/tested" / f"{name}.txt").read_text()
    assert shipped == make.tested(lock), "the lock has changed: run python data/tested/make.py"
    assert {"anthropic", "torch", "trl", "vllm"} <= installation.read_tested(name).keys()


def _packages(monkeypatch: pytest.MonkeyPatch, found: dict[str, str | None], extra: str | None) -> Check:
    monkeypatch.setattr(installation, "installed_version", found.get)
    wanted = [Requirement("alpha>=2,<3"), Requirement("Beta_x==1.1")]
    return installation._packages("these", wanted, {"alpha": "2.0", "beta-x": "1.1"}, extra)


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        ({"alpha": "2.0+cpu", "beta-x": "1.1"}, "ok", "as tested"),
        ({"alpha": "2.5", "beta-x": "1.1"}, "ok", "other than tested: alpha 2.5 (tested 2.0)"),
        ({"alpha": "3.0", "beta-x": "1.1"}, "problem", "outside the range it is written for: alpha 3.0 (exp"),
        ({"alpha": "2.0"}, "problem", "not installed: beta-x"),
    ],
)
def test_versions_are_tested_untested_outside_or_missing(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, str | None], state: str, words: str
) -> None:
    check = _packages(monkeypatch, found, None)
    assert check.state == state
    assert words in check.found
    assert check.details["alpha"]["tested"] == "2.0"  # type: ignore[index, call-overload]
    # Of an extra, which nobody has to have, it is a note with the line to type.
    check = _packages(monkeypatch, found, "train")
    assert check.state == ("note" if state == "problem" else "ok")
    assert check.fix == ('pip install "prefgen[train]"' if state == "problem" else None)


# ------------------------------------------------------------------------------------------------ the machine


def test_gpus_are_those_of_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 570.1'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machine.find_gpus() == ["NVIDIA H100, 81559 MiB, 570.1"]
    check = machine.check_gpus(machine.find_gpus())
    assert check.state == "note"  # The torch of the tests is built for the CPU.
    assert "does not see it" in check.found
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert machine.find_gpus() == []


def test_keys_are_told_by_name_only(prefgen: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789abcdef")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    ran = prefgen("doctor", "--json")
    assert "OPENAI_API_KEY" in checks(ran)["keys"]["details"]["set"]
    assert "not set: ANTHROPIC_API_KEY" in checks(ran)["keys"]["found"]
    assert "secret" not in ran.out + ran.err


def test_a_full_disk_and_a_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefgen: Runner
) -> None:
    ledger = tmp_path / "new" / "ledger.sqlite"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("U", (), {"free": 10**8})())
    ran = prefgen("doctor", "--ledger", ledger, "--json")
    assert ran.code == 3
    place = checks(ran)[f"ledger in {ledger.parent}"]
    assert (place["state"], place["found"]) == ("problem", "0.1 GB free")
    assert "free disk space" in place["fix"]
    assert not ledger.parent.exists()
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    assert prefgen("doctor", "--ledger", tmp_path / "file" / "l.sqlite").code == 3


def test_a_damaged_ledger_is_found(prefgen: Runner, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE answers (key, value)")
        connection.execute("INSERT INTO answers VALUES (1, 2)")
    connection.close()
    assert "whole, 1 answers" in checks(prefgen("doctor", "--ledger", path, "--json"))["ledger file"]["found"]
    path.write_bytes(b"no database" * 500)
    ran = prefgen("doctor", "--ledger", path)
    assert ran.code == 3
    assert "damaged" in ran.out
    assert "prefgen ledger verify" in ran.out


# ------------------------------------------------------------------------------------------------- the models


def test_models_are_asked_what_they_can_do(prefgen: Runner, tmp_path: Path) -> None:
    ran = prefgen(
        "doctor", "scripted/writer", "--model", "scripted/hasty", "--judge", "scripted/judge", "--json"
    )
    assert ran.code == 0, ran.err
    found = checks(ran)
    writer, judge = found["scripted/writer"]["details"], found["scripted/judge"]["details"]
    assert (writer["logprobs"], judge["logprobs"]) == (False, True)
    assert writer["tokens_per_second"] > 0
    assert "scripted/hasty" in found
    verdict = found["judge scripted/judge"]
    assert verdict["details"]["evidence"] == "logprobs"
    assert len(verdict["details"]["log_odds"]) == 2
    assert "right in both orders" in verdict["found"]
    assert "judge scripted/writer" not in found
    # What is asked is not the user's: his ledger stays as it was.
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_judge_that_cannot_judge_is_a_problem(prefgen: Runner) -> None:
    ran = prefgen("doctor", "--judge", "scripted/writer", "--json")
    assert ran.code == 3
    verdict = checks(ran)["judge scripted/writer"]
    assert verdict["state"] == "problem"
    assert "2 of 2 verdicts cannot be used (parse_failure)" in verdict["found"]
    assert "another judge" in verdict["fix"]


def test_a_judge_that_prefers_the_wrong_answer_is_noted(
    prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "_rich", lambda text: -len(text.split()))
    monkeypatch.setattr(scripted._judge, "__defaults__", (scripted._rich,))
    ran = prefgen("doctor", "--judge", "scripted/judge", "--json")
    verdict = checks(ran)["judge scripted/judge"]
    assert verdict["state"] == "note"
    assert "over the right answer" in verdict["found"]
    assert "prefgen calibrate" in verdict["fix"]


def test_a_server_is_asked_and_its_price_is_looked_up(prefgen: Runner) -> None:
    with stub() as url:
        spec = f"openai/stub@{url}"
        ran = prefgen("doctor", spec, "--json")
        priced = prefgen("doctor", spec, "--price", f"{spec}=1,2", "--json")
    assert ran.code == 0, ran.out
    found = checks(ran)
    assert found[spec]["details"]["served"] == "stub"
    assert found[spec]["details"]["n"] is True
    assert found[spec]["details"]["logprobs"] is True
    assert "started" not in found[spec]["found"]
    assert found[f"price of {spec}"]["state"] == "note"
    assert found[f"price of {spec}"]["fix"] == f"--price {spec}=IN,OUT"
    assert checks(priced)[f"price of {spec}"]["details"] == {"input": 1.0, "output": 2.0}


def test_what_does_not_work_is_a_problem_with_its_remedy(
    prefgen: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ran = prefgen("doctor", "openai/some-model", "--reward-model", "openai/x@http://127.0.0.1:9/v1")
    assert ran.code == 3
    assert "problem  openai/some-model: no key; set OPENAI_API_KEY" in ran.out
    assert "problem  reward model openai/x@http://127.0.0.1:9/v1: no server answers" in ran.out
    assert ran.out.splitlines()[-1].startswith("2 problems, ")
    told = prefgen("doctor", "openai/some-model", "--json")
    assert (told.code, told.result["ok"], told.result["counts"]["problem"]) == (3, False, 1)


def test_a_wrong_spec_is_wrong_usage_before_anything_is_looked_at(prefgen: Runner) -> None:
    done = prefgen("doctor", "scripted/writer", "opnai/x")
    assert (done.code, done.out) == (2, "")
    assert "did you mean openai/x?" in done.err


def test_vllm_is_started_on_demand(prefgen: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, Any]] = []

    async def open_vllm(path: str, spec: str, options: Any, share: int) -> scripted.ScriptedModel:
        opened.append((path, dict(options)))
        return scripted.ScriptedModel(lambda request, sample: "April.", spec)

    monkeypatch.setattr("prefgen.models.vllm.open_vllm", open_vllm)
    told = checks(prefgen("doctor", "--start-vllm", "--json"))["vLLM"]
    assert told["state"] == "ok"
    assert told["found"].startswith("the engine runs: ")
    ((path, options),) = opened
    assert (Path(path) / "config.json").is_file()
    assert options["max_model_len"] == 256
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else real(name)
    )
    ran = prefgen("doctor", "--start-vllm")
    assert ran.code == 3
    assert 'pip install "prefgen[vllm]"' in ran.out


@pytest.mark.parametrize(
    ("template", "state", "words"),
    [
        (SYSTEM_TEMPLATE, "ok", "keeps all turns"),
        (NO_SYSTEM_TEMPLATE, "note", "it takes no system turn"),
        (SYSTEM_TEMPLATE.replace("</s>", ""), "note", "no end token"),
        (None, "problem", "the tokenizer has none"),
    ],
)
def test_chat_templates(tmp_path: Path, template: str | None, state: str, words: str) -> None:
    make_tokenizer(template).save_pretrained(tmp_path)
    check = models._template("vllm/x", str(tmp_path))
    assert check.state == state, check
    assert words in check.found


def test_hostile_answers_are_inert(prefgen: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        scripted, "open_scripted", lambda name, options: scripted.ScriptedModel(lambda *_: "\x1b[2Jhello")
    )
    ran = prefgen("doctor", "--judge", "scripted/x")
    assert ran.code == 3
    assert "\x1b" not in ran.out + ran.err
    assert "hello" in ran.out


def test_nothing_is_shown_in_a_pipe_but_the_result(prefgen: Runner) -> None:
    ran = prefgen("doctor", "scripted/writer", "--quiet", "--json")
    assert (ran.err, ran.result["ok"]) == ("", True)

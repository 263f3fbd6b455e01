"""`--accelerate`: the shipped files, what is refused before a start, and one message when a process fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import process

from pipelines import launching
from pipelines.launching import KINDS, SHIPPED, first_to_fail, launch_arguments, read_config
from prefgen.assets import asset
from prefgen.errors import UsageError
from trainers import processes
from trainers.dpo import DPOConfig, train_dpo
from trainers.loading import check_machine

CPU = "cpu_two_processes"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight of them, and with deepspeed."""
    monkeypatch.setattr(launching, "_gpus", lambda: 8)
    monkeypatch.setitem(sys.modules, "deepspeed", object())


def test_the_shipped_files_are_those_that_are_named() -> None:
    assert {path.stem for path in asset("accelerate").glob("*.yaml")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_accelerate_knows_every_key_of_a_shipped_file(name: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    path = asset(f"accelerate/{name}.yaml")
    config = read_config(path)
    assert config.distributed_type.value in KINDS
    known = {action.dest for action in launch_command_parser()._actions}
    text = yaml.safe_load(path.read_text())
    nested = {*text.get("fsdp_config", {}), *text.get("deepspeed_config", {})}
    # Accelerate's reader does not look at these; its launcher has an option for each that it uses.
    assert nested <= known


@pytest.mark.usefixtures("gpus")
def test_all_gpus_are_used_unless_told() -> None:
    for name, overrides, wanted in (
        ("ddp", [], 8),
        ("fsdp2", ["num_processes=4"], 4),
        ("deepspeed_zero3", [], 8),
        ("ddp_two_machines", ["main_process_ip=10.0.0.1", "machine_rank=1"], 16),
        (CPU, [], 2),
    ):
        parsed = launch_arguments(name, overrides, ["train", "dpo", "--out", "o"])
        assert parsed.num_processes == wanted
        assert (parsed.training_script, parsed.module) == ("pipelines", True)
        assert parsed.training_script_args == ["train", "dpo", "--out", "o"]
    assert launch_arguments("fsdp2", ["fsdp_offload_params=true"], []).fsdp_offload_params == "true"


@pytest.mark.usefixtures("gpus")
def test_what_the_environment_of_a_process_will_be() -> None:
    """Through accelerate's own steps: the file's words reach the processes."""
    from accelerate.commands.launch import _validate_launch_command
    from accelerate.utils.launch import prepare_multi_gpu_env

    parsed, *_ = _validate_launch_command(launch_arguments("fsdp2", [], ["train"]))
    env = prepare_multi_gpu_env(parsed)
    assert (env["ACCELERATE_USE_FSDP"], env["FSDP_VERSION"]) == ("true", "2")
    assert (env["FSDP_STATE_DICT_TYPE"], env["FSDP_CPU_RAM_EFFICIENT_LOADING"]) == (
        "SHARDED_STATE_DICT",
        "false",
    )


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("fsdp3", [], "neither a shipped config .*fsdp2.* nor a file"),
        ("fsdp2", [], "runs on GPUs and this machine has none"),
        (CPU, ["num_processes"], "expected KEY=VALUE"),
        (CPU, ["num_procs=3"], "accelerate launch has no such option"),
        (CPU, ["num_processes=many"], "invalid int value: 'many'"),
        (CPU, ["num_processes=0"], "0 processes on 1 machines"),
        (CPU, ["num_machines=2"], "main machine's address is missing"),
        (CPU, ["num_machines=3", "main_process_ip=127.0.0.1"], "2 processes on 3 machines"),
    ],
)
def test_what_cannot_start_is_refused(
    name: str, overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_gpus", lambda: 0)
    with pytest.raises(UsageError, match=message):
        launch_arguments(name, overrides, [])


@pytest.mark.usefixtures("gpus")
def test_a_machine_is_not_asked_for_more_than_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"9 processes on this machine, which has 8 GPUs.*num_processes=8"):
        launch_arguments("ddp", ["num_processes=9"], [])
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UsageError, match="pip install deepspeed"):
        launch_arguments("deepspeed_zero2", [], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distributed_type: MULTI_GPU\nnum_proceses: 2\n", "unknown keys.*num_proceses"),
        ("distributed_type: MULTI_CPU\nnum_processes: 2\n", "MULTI_GPU with use_cpu: true"),
        ("num_processes: 2\n", "distributed_type"),
        ("just words\n", "cannot read it"),
    ],
)
def test_a_file_that_accelerate_would_not_take(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        launch_arguments(str(tmp_path / "own.yaml"), [], [])


# ------------------------------------------------------------------------------------------- in a process


def config(tmp_path: Path, **options: Any) -> DPOConfig:
    return DPOConfig.model_validate({"model": "m", "data": "d.jsonl", "out": tmp_path / "out", **options})


def test_python_is_told_to_use_the_launcher(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="accelerate launch --config_file"):
        train_dpo(config(tmp_path, accelerate="ddp"))


def test_a_world_without_ranks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="LOCAL_RANK is not set"):
        check_machine(config(tmp_path))


def test_what_splits_weights_needs_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.sharded() is None
    assert (processes.count(), processes.is_main()) == (1, True)
    for name, value in {
        "LOCAL_RANK": "1",
        "RANK": "3",
        "WORLD_SIZE": "4",
        "ACCELERATE_USE_FSDP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert (processes.sharded(), processes.count(), processes.is_main()) == ("FSDP", 4, False)
    with pytest.raises(UsageError, match="FSDP splits a model over GPUs and this machine has none"):
        check_machine(config(tmp_path))


def test_the_first_that_fails_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_to_fail()
    assert first_to_fail()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("PREFGEN_FAILED", str(tmp_path / "failed"))
    assert first_to_fail()
    assert not first_to_fail()


@pytest.mark.train
def test_an_error_in_the_processes_is_told_once_with_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "p", "completion": "c", "label": true}\n')
    (tmp_path / "model").mkdir()
    done = process(
        "train", "dpo", "--model", tmp_path / "model", "--data", tmp_path / "rows.jsonl", "--out",
        tmp_path / "out", "--accelerate", CPU, "--json", env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.code == 2
    assert done.err.count("no column 'chosen'") == 1
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "out").exists()

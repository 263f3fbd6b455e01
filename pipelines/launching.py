"""`--accelerate`: the same command again, once for each device, started by accelerate's own launcher."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefgen.assets import asset
from prefgen.errors import UsageError
from trainers import processes
from trainers.quiet import require_packages

if TYPE_CHECKING:
    from accelerate.commands.config.config_args import ClusterConfig

    from trainers.config import StageConfig

SHIPPED = ("ddp", "ddp_two_machines", "fsdp2", "deepspeed_zero2", "deepspeed_zero3", "cpu_two_processes")
KINDS = ("MULTI_GPU", "FSDP", "DEEPSPEED")
_EXAMPLE_ADDRESS = "192.0.2.1"
_FAILED = "PREFGEN_FAILED"
"""Environment variable: a file which the first process that fails makes, so that one message is shown."""


def relaunch(config: StageConfig) -> None:
    """Where --accelerate asks for several processes: starts them, waits and ends with their exit code.

    In a process that was started so, and without --accelerate, nothing happens.
    """
    if config.accelerate and not processes.launched():
        arguments: list[str] = click.get_current_context().find_root().obj
        raise click.exceptions.Exit(launch(config, arguments))


def launch(config: StageConfig, arguments: Sequence[str]) -> int:
    """Runs `prefgen ARGUMENTS` under accelerate and returns the exit code. Raises UsageError."""
    require_packages("torch", "accelerate")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    parsed = launch_arguments(config.accelerate or "", config.accelerate_arg, arguments)
    with tempfile.TemporaryDirectory() as folder, _quiet_launcher():
        os.environ[_FAILED] = str(Path(folder) / "failed")
        try:
            from accelerate.commands.launch import launch_command

            launch_command(parsed)
        except ChildFailedError as error:
            code = int(error.get_first_failure()[1].exitcode)
            if code < 0:
                click.echo(f"error: a process was ended by signal {-code}; go on with --resume", err=True)
            return code if code > 0 else 1
        except (SignalException, KeyboardInterrupt):
            if not Path(os.environ[_FAILED]).exists():
                click.echo("error: interrupted; go on with the same command and --resume", err=True)
            return 130
        finally:
            del os.environ[_FAILED]
    return 0


def first_to_fail() -> bool:
    """Whether no other process of the run has told of its failure yet; true where there is no other."""
    path = os.environ.get(_FAILED)
    if path is None or not processes.launched():
        return True
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def launch_arguments(name: str, overrides: Sequence[str], arguments: Sequence[str]) -> argparse.Namespace:
    """What accelerate's launcher is told. Raises UsageError where it could not work on this machine."""
    from accelerate.commands.launch import launch_command_parser

    path = find_config(name)
    config = read_config(path)
    words = [word for key, value in _given(overrides).items() for word in (f"--{key}", value)]
    command = ["--config_file", str(path), *words, "-m", "pipelines", *arguments]
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            parsed: argparse.Namespace = launch_command_parser().parse_args(command)
    except SystemExit as error:
        raise UsageError(f"--accelerate-arg: {said.getvalue().strip().splitlines()[-1]}") from error
    _fill(parsed, config)
    _check(path.stem, parsed, config)
    return parsed


def find_config(name: str) -> Path:
    """A shipped file by its name, or the user's own by its path."""
    if name in SHIPPED:
        return asset(f"accelerate/{name}.yaml")
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"--accelerate {name}: neither a shipped config ({', '.join(SHIPPED)}) nor a file; "
            "make one of your own with: accelerate config --config_file FILE"
        )
    return path


def read_config(path: Path) -> ClusterConfig:
    """By accelerate's own reader, which knows the keys of its version."""
    import yaml
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    try:
        config = load_config_from_file(str(path))
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UsageError(f"--accelerate {path}: accelerate cannot read it ({error})") from error
    kind = getattr(config.distributed_type, "value", config.distributed_type)
    if not isinstance(config, ClusterConfig) or kind not in KINDS:
        raise UsageError(
            f"--accelerate {path}: distributed_type is {kind}, expected one of {', '.join(KINDS)} "
            "(MULTI_GPU with use_cpu: true for several processes on the CPU)"
        )
    return config


def _given(overrides: Sequence[str]) -> dict[str, str]:
    from accelerate.commands.launch import launch_command_parser

    known = {
        option.removeprefix("--")
        for action in launch_command_parser()._actions
        if action.nargs is None
        for option in action.option_strings
    }
    given: dict[str, str] = {}
    for pair in overrides:
        key, _, value = pair.partition("=")
        if not value:
            raise UsageError(f"--accelerate-arg {pair!r}: expected KEY=VALUE, for example num_processes=4")
        if key not in known:
            raise UsageError(
                f"--accelerate-arg {key}: accelerate launch has no such option; common ones are "
                "num_processes, num_machines, machine_rank, main_process_ip, main_process_port, gpu_ids"
            )
        given[key] = value
    return given


def _fill(parsed: argparse.Namespace, config: ClusterConfig) -> None:
    """What accelerate would take from the file, to be checked first; all GPUs where it says no number."""
    for name in ("num_machines", "main_process_ip"):
        if getattr(parsed, name) is None:
            setattr(parsed, name, getattr(config, name))
    if parsed.num_processes is None:
        unset = config.num_processes == -1
        parsed.num_processes = _gpus() * parsed.num_machines if unset else config.num_processes


def _check(name: str, parsed: argparse.Namespace, config: ClusterConfig) -> None:
    wanted, machines = parsed.num_processes, parsed.num_machines
    if not config.use_cpu and not _gpus():
        raise UsageError(
            f"--accelerate {name} runs on GPUs and this machine has none; to try several processes on the "
            "CPU: --accelerate cpu_two_processes"
        )
    if wanted < machines or wanted % machines:
        raise UsageError(
            f"--accelerate {name}: {wanted} processes on {machines} machines; expected the number of all of "
            "them together, a multiple of the machines: --accelerate-arg num_processes=N"
        )
    if not config.use_cpu and wanted // machines > _gpus():
        raise UsageError(
            f"--accelerate {name}: {wanted // machines} processes on this machine, which has {_gpus()} GPUs; "
            f"give --accelerate-arg num_processes={_gpus() * machines}"
        )
    if machines > 1 and parsed.main_process_ip in (None, _EXAMPLE_ADDRESS):
        raise UsageError(
            f"--accelerate {name}: the main machine's address is missing; give --accelerate-arg "
            "main_process_ip=ADDRESS and, on each machine, its --accelerate-arg machine_rank=0, 1 …"
        )
    if getattr(config.distributed_type, "value", config.distributed_type) == "DEEPSPEED":
        try:
            import deepspeed  # type: ignore[import-not-found]  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"--accelerate {name} needs the package deepspeed; run: pip install deepspeed"
            ) from error


@contextlib.contextmanager
def _quiet_launcher():  # type: ignore[no-untyped-def]
    """The processes speak for themselves: the launcher's own report of a failure is a page of noise."""
    loggers = [logging.getLogger(name) for name in ("torch.distributed.elastic", "torch.distributed.run")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _gpus() -> int:
    import torch

    return int(torch.cuda.device_count())

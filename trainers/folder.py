"""The output folder of a stage: begun with `stage.json`, complete once `training.json` is there.

```
stage.json        stage, config and hashes of what goes in; first
metrics.jsonl     one line a log step
samples.jsonl     what the model answered to the watched prompts, at each evaluation
checkpoints/      to go on from
…                 the model or adapter with its tokenizer
merged/           the full model, if asked for
training.json     last
```
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, JsonValue

from prefgen.errors import RunDirectoryError, UsageError
from trainers.config import StageConfig

FREE_TO_CHANGE = frozenset(
    {
        "out",
        "resume",
        "overwrite",
        "report_to",
        "keep_checkpoints",
        "accelerate",
        "accelerate_arg",
        "reference_cache",
        "allow_base_model",
        "max_failure_share",
    }
)
"""Options that do not change the model that comes out."""


class Beginning(BaseModel):
    """`stage.json`. `inputs`: SHA-256 by what was read, None for a model that is no local folder;
    `processes`: each takes `batch_size` rows, so their number is part of what is trained."""

    stage: str
    processes: int = 1
    config: dict[str, JsonValue]
    inputs: dict[str, str | None]


def check_place(config: StageConfig) -> None:
    """Raises UsageError where writing (or deleting) `out` would touch the model or the data."""
    out = config.out.resolve()
    model = Path(config.model).resolve()
    if out.is_relative_to(model):
        raise UsageError(
            f"--out {config.out} is the starting model's folder or inside it; choose another --out"
        )
    for kept in (model, config.data.resolve(), *([config.eval_data.resolve()] if config.eval_data else [])):
        if kept.is_relative_to(out):
            raise UsageError(
                f"{kept.name} lies in --out {config.out}, which is written anew; choose another --out"
            )


def is_complete(out: Path) -> bool:
    return (out / "training.json").is_file()


def check_free(config: StageConfig, beginning: Beginning | None = None) -> None:
    """Raises RunDirectoryError where `out` is used and neither --resume nor --overwrite says what to do.

    Nothing is written or deleted. `beginning`: for a resumed run to be compared with; None: it is not.
    """
    # A path through a folder that is not there yet may lead to one that is.
    out = config.out.resolve()
    if out.exists() and not out.is_dir():
        raise RunDirectoryError(f"{out} is a file; choose another --out")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "stage.json").is_file():
        raise RunDirectoryError(f"{out} holds files that are no training run; choose another --out")
    if config.resume:
        if beginning is None:
            return
        _check_same(out, Beginning.model_validate_json((out / "stage.json").read_text("utf-8")), beginning)
    elif not config.overwrite:
        raise RunDirectoryError(
            f"{out} holds a training run already; go on with --resume, delete it with --overwrite, "
            "or choose another --out"
        )


def _check_same(out: Path, before: Beginning, now: Beginning) -> None:
    changes = _changes(
        {"stage": before.stage, "processes": before.processes},
        {"stage": now.stage, "processes": now.processes},
    )
    changes += _changes(before.config, now.config) + _changes(before.inputs, now.inputs)
    if changes:
        raise RunDirectoryError(
            f"{out} was begun differently, so it cannot be resumed: {'; '.join(changes)}; "
            "go back to these values, or start over with --overwrite or another --out"
        )


def _changes(before: Mapping[str, JsonValue], now: Mapping[str, JsonValue]) -> list[str]:
    keys = (key for key in sorted(before.keys() | now.keys()) if key not in FREE_TO_CHANGE)
    return [
        f"{key} was {before.get(key)}, is {now.get(key)}" for key in keys if before.get(key) != now.get(key)
    ]


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Makes `out` and keeps other trainings from it. Raises RunDirectoryError where one is at work there."""
    out.mkdir(parents=True, exist_ok=True)
    # The folder itself is locked, since a file of ours in it would be part of the model.
    handle = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RunDirectoryError(f"{out} is being trained into by another process") from error
    finally:
        os.close(handle)


def begin(config: StageConfig, beginning: Beginning) -> Path | None:
    """Makes the folder and writes `stage.json`; returns the checkpoint to go on from, None to start."""
    out = config.out
    out.mkdir(parents=True, exist_ok=True)
    for earlier in out.iterdir() if config.overwrite else ():
        shutil.rmtree(earlier) if earlier.is_dir() and not earlier.is_symlink() else earlier.unlink()
    checkpoint = last_checkpoint(out / "checkpoints", beginning.processes) if config.resume else None
    write_json(out / "stage.json", beginning)
    return checkpoint


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_checkpoint(folder: Path, processes: int, until: int | None = None) -> Path | None:
    """The newest whole checkpoint, of step `until` at most; one that was cut short is deleted."""
    for path in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if until is not None and step_of(path) > until:
            continue
        if _is_whole(path, processes):
            return path
        shutil.rmtree(path)
    return None


def _is_whole(checkpoint: Path, processes: int) -> bool:
    """The main process writes its state last; the others each write that of their random numbers."""
    if processes > 1 and len(list(checkpoint.glob("rng_state_*.pth"))) < processes:
        return False
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def write_json(path: Path, value: BaseModel) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(value.model_dump_json(indent=2) + "\n", "utf-8")
    os.replace(part, path)

"""Who used a run: one line a use in its `uses.jsonl`, and what training folders beside it say of themselves.

A use that is on record has the path of what was made as it was written then and relative to the run, so that
both may move together. A run that nobody may write into keeps no record: trainings near it are found by the
fingerprint of the rows they were trained on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from prefgen.files import found_json
from trainers.fingerprint import hash_files
from trainers.processes import is_main

Kind: TypeAlias = Literal["training", "evaluation", "loop", "pair", "export", "labels"]
FILE = "uses.jsonl"
_DEEPEST = 8
ROWS = tuple(f"{name}/{split}.parquet" for name in ("dpo", "kto") for split in ("train", "test"))
_MARKS: Mapping[Kind, str] = {
    "training": "training.json",
    "evaluation": "evaluation.json",
    "loop": "config.yaml",
    "pair": "manifest.json",
}
"""The file that says that what was made is (still) there; of other kinds the path itself does."""


@dataclass(frozen=True, slots=True)
class Use:
    """`path`: where what was made lies, or lay where it is `gone`; `time`: ISO 8601; `rows`: SHA-256 of the
    run's datasets then, by name; `recorded`: False for a training that was found beside the run."""

    kind: Kind
    path: Path
    time: str | None = None
    rows: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = True

    @property
    def gone(self) -> bool:
        return not _made(self.kind, self.path)

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": str(self.path),
            "time": self.time,
            "gone": self.gone,
            "recorded": self.recorded,
        }


def run_of(data: Path) -> Path | None:
    """The finished run that `data` is, or whose table it is."""
    for folder in (data, data.parent, data.parent.parent):
        if (folder / "manifest.json").is_file() and (folder / "candidates.parquet").is_file():
            return folder
    return None


def record(run: Path, kind: Kind, made: Path) -> None:
    """Notes that `made` was made from `run`; once, and not where the run may not be written."""
    target, home, rows = made.resolve(), run.resolve(), rows_of(run)
    if any((use.kind, use.path, use.rows) == (kind, target, rows) for use in _recorded(run)):
        return
    line = {
        "kind": kind,
        "path": str(target),
        "relative": os.path.relpath(target, home),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
    }
    with suppress(OSError), (run / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def record_training(data: Path, folder: Path) -> None:
    """The same of a training on a run, where `data` is one or a file of one; by its main process."""
    run = run_of(data) if is_main() else None
    if run is not None and (folder / "training.json").is_file():
        record(run, "training", folder)


def record_evaluation(sides: tuple[str, ...], folder: Path, trained_on: Path | None = None) -> None:
    """The same of an evaluation, on the runs that its models were trained on. `sides`: model specs."""
    models = (Path(side.partition("/")[2]) for side in sides)
    runs = [run for model in models for run in runs_behind(model)]
    for run in dict.fromkeys([*runs, *([trained_on] if trained_on is not None else [])]):
        record(run, "evaluation", folder)


def runs_behind(model: Path) -> Iterator[Path]:
    """The runs that a local model was trained on, and those that what it started from was trained on."""
    for _ in range(_DEEPEST):  # A training that names itself as its start must not go on for ever.
        told = training_at(model)
        if told is None:
            return
        run = run_of(Path(str(told["config"].get("data", ""))))
        if run is not None:
            yield run
        model = Path(str(told["config"].get("model", "")))


def training_at(model: Path) -> dict[str, Any] | None:
    """`training.json` of a model's folder, or of the folder whose adapter was merged into it."""
    for folder in (model, model.parent) if model.name == "merged" else (model,):
        told = found_json(folder / "training.json")
        if told is not None and isinstance(told.get("config"), dict):  # Of prefgen: others use the name too.
            return told
    return None


def uses(run: Path, look_in: tuple[Path, ...] = ()) -> list[Use]:
    """What was made of a run, in the order in which it was; then trainings found in `look_in` and near it."""
    found = {(use.kind, use.path): use for use in _recorded(run)}
    for use in _near(run, look_in):
        found.setdefault((use.kind, use.path), use)
    return list(found.values())


def rows_of(run: Path) -> dict[str, str]:
    """SHA-256 of each dataset of a run, by its name there."""
    hashes = {name: hash_files(run / name) for name in ROWS}
    return {name: told for name, told in hashes.items() if told is not None}


def _recorded(run: Path) -> Iterator[Use]:
    """Lines that cannot be read are left out: a use is no reason to refuse a run."""
    with suppress(OSError, UnicodeDecodeError):
        for line in (run / FILE).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                told = json.loads(line)
                if told["kind"] in get_args(Kind):
                    yield Use(told["kind"], _place(run, told), told.get("time"), dict(told.get("rows", {})))


def _place(run: Path, told: Mapping[str, Any]) -> Path:
    beside = Path(os.path.normpath(run.resolve() / told["relative"]))
    return beside if _made(told["kind"], beside) else Path(told["path"])


def _made(kind: Kind, path: Path) -> bool:
    mark = _MARKS.get(kind)
    return path.exists() if mark is None else (path / mark).is_file()


def _near(run: Path, look_in: tuple[Path, ...]) -> Iterator[Use]:
    """Trainings on a run's rows, in the folders to look in, beside the run and beside its folder. The last
    may hold other runs of the same rows: there a training must have named its data as this run is named."""
    home, hashes = run.resolve(), set(rows_of(run).values())
    for place in dict.fromkeys([*(path.resolve() for path in look_in), home.parent]):
        yield from _trained_in(place, hashes)
    if len(home.parents) > 2:
        for use in _trained_in(home.parent.parent, hashes):
            data = Path(str((training_at(use.path) or {"config": {}})["config"].get("data", "")))
            if any(home.parts[-len(named) :] == named for named in _names(data)):
                yield use


def _names(data: Path) -> Iterator[tuple[str, ...]]:
    """The last two parts of the path of a run that is `data` or holds it."""
    yield data.parts[-2:]
    if data.suffix:
        yield data.parent.parent.parts[-2:]


def _trained_in(place: Path, hashes: Set[str]) -> Iterator[Use]:
    for pattern in ("training.json", "*/training.json", "*/*/training.json"):
        for path in sorted(place.glob(pattern)):
            told = training_at(path.parent)
            if told is not None and told.get("inputs", {}).get("train") in hashes:
                yield Use("training", path.parent.resolve(), recorded=False)

"""A run is a directory: resolved config first, tables as they grow, the manifest last.

`manifest.json` exists exactly when everything before it is whole. `run.json` holds the run's id, under which
the ledger books what it pays, and how often the run came to its end with answers still owed; a further
`--resume` then asks for those again.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from prefgen.errors import InputError, RunDirectoryError, UsageError
from prefgen.files import write_json, write_whole
from prefgen.yamlfile import read_yaml

OWNED = (
    "candidates.parquet",
    "judgments.parquet",
    "scores.parquet",
    "planted.parquet",
    "undecided.parquet",
    "rounds.parquet",
    "sft.parquet",
    "pairs.parquet",
    "dpo",
    "kto",
    "audit",
    "exports",
    "README.md",
    "report.html",
    "annotations.jsonl",
    "evaluation.json",
    "manifest.json",
    "run.json",
    "state.json",
    ".work",
    "start",
    "rounds",
    "rounds.json",
    "usage.json",
    "best.json",
    "best",
    "lineage.parquet",
    "uses.jsonl",
    "flips.jsonl",
    "config.yaml",
)


_SIGNATURE = "# The configuration of a prefgen run, as resolved."
_SCRAPS = (".lock", "config.yaml.part")
"""What a run leaves when it is killed before its config is written."""
_MARKS = ("config.yaml", "run.json", *_SCRAPS)


def _is_run(path: Path) -> bool:
    """Whether the config there is one of ours: `--overwrite` must not remove somebody's project."""
    config = path / "config.yaml"
    return config.is_file() and config.read_bytes().startswith(_SIGNATURE.encode())


def strangers(export: Path) -> list[str] | None:
    """What else is in the directory of an export: a model that was trained in it, say. None: it is none."""
    try:
        made = json.loads((export / "export.json").read_text(encoding="utf-8"))
        ours = {"export.json", *made["files"]} if "trainer" in made else set()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not ours:
        return None
    return sorted(path.name for path in export.iterdir() if path.name not in ours or path.is_dir())


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The values of nested blocks under dotted names; `inputs`, whose names are paths, stays whole."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and name != "inputs":
            found |= flat(value, f"{before}{name}.")
        else:
            found[before + name] = value
    return found


class RunDirectory:
    """Use as a context manager; it holds a lock, so that no two processes write one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self._new = False

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UsageError):
            self.take_back()
        self._unlock()

    def take_back(self) -> None:
        """Where nothing was made but the config, as if never begun: the next command must not find a used
        directory."""
        if self._new and all(child.name in _MARKS for child in self.path.iterdir()):
            for name in _MARKS:
                (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):
                self.path.rmdir()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @classmethod
    def start(
        cls,
        path: Path,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
        may_change: Iterable[str] = (),
    ) -> RunDirectory:
        """Opens `path` for a run of `config`.

        A used directory is refused unless `resume` (the config must be the same but for `may_change`: names,
        dotted in blocks, that may end in `*`) or `overwrite` (only files of a run are removed). Raises
        RunDirectoryError.
        """
        run = cls(path)
        if resume and overwrite:
            raise RunDirectoryError(f"{path}: --resume keeps what is there, --overwrite removes it; give one")
        if path.exists() and not path.is_dir():
            raise RunDirectoryError(f"{path} is a file; --out names a directory")
        used = path.exists() and any(child.name not in _SCRAPS for child in path.iterdir())
        if used and not _is_run(path):
            raise RunDirectoryError(f"{path} holds files that are no prefgen run; choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            run._acquire()
        except OSError as error:
            raise RunDirectoryError(f"{path}: cannot be written ({error.strerror})") from error
        try:
            run._begin(config, used, resume, overwrite, set(may_change))
        except BaseException:
            run._unlock()
            raise
        return run

    def _begin(
        self, config: Mapping[str, Any], used: bool, resume: bool, overwrite: bool, may_change: set[str]
    ) -> None:
        if used and overwrite:
            self.clear()
        elif used and not resume:
            done = "a finished run" if self.complete else "an unfinished run"
            raise RunDirectoryError(
                f"{self.path} holds {done}; add --resume to go on with it, --overwrite to replace it, "
                "or choose another --out"
            )
        elif used:
            self._check_same(config, may_change)
        self._new = not used
        settings = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        self.write_text("config.yaml", f"{_SIGNATURE}\n{settings}")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """A complete run, for reading. Raises InputError where there is none."""
        run = cls(path)
        tables = ("config.yaml", "candidates.parquet") if run.complete else ("config.yaml",)
        if not all((path / name).is_file() for name in tables):
            raise InputError(path, "not a run directory", expected="a directory made by prefgen generate")
        if not run.complete:
            raise InputError(
                path, "an unfinished run (no manifest.json)", fix="finish it: the same command with --resume"
            )
        return run

    def _acquire(self) -> None:
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunDirectoryError(f"{self.path} is being written by another process") from error

    def _check_same(self, config: Mapping[str, Any], may_change: set[str]) -> None:
        before, config = flat(self.config), flat(json.loads(json.dumps(config)))
        changed = [
            key
            for key in sorted({*before, *config})
            if before.get(key) != config.get(key) and not any(fnmatchcase(key, name) for name in may_change)
        ]
        if changed:
            lines = "\n".join(f"  {key}: was {before.get(key)!r}, now {config.get(key)!r}" for key in changed)
            raise RunDirectoryError(
                f"{self.path} was started with another config; changed:\n{lines}\n"
                "  fix: put these back, or choose another --out (what was paid for is not asked again)"
            )

    def clear(self) -> None:
        """Removes what a run writes and nothing else. Raises RunDirectoryError, with nothing removed, where
        something stands among its exports: trainers write their models there."""
        for export in (self.path / "exports").rglob("export.json"):
            if others := strangers(export.parent):
                raise RunDirectoryError(
                    f"{export.parent} holds more than an export ({', '.join(others[:5])}), which --overwrite "
                    "would delete; move it away, or choose another --out"
                )
        for name in OWNED:
            target = self.path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    @property
    def complete(self) -> bool:
        return (self.path / "manifest.json").exists()

    @property
    def config(self) -> dict[str, Any]:
        return read_yaml(self.path / "config.yaml")

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        return manifest

    @property
    def attempt(self) -> int:
        """How often this run ended with answers owed."""
        return int(self._state.get("attempt", 0))

    @property
    def id(self) -> str:
        """The same as long as the directory is not begun anew."""
        state = self._state
        if "id" not in state:
            state |= {"id": uuid.uuid4().hex}
            self.write_json("run.json", state)
        return str(state["id"])

    @property
    def _state(self) -> dict[str, Any]:
        # `datasets` takes a folder with the older name for one of its own making.
        files = [self.path / name for name in ("state.json", "run.json")]
        state: dict[str, Any] = {}
        for path in files:
            state |= json.loads(path.read_text()) if path.exists() else {}
        return state

    def ended_owing(self) -> None:
        """The run came to its end, but some answers failed: the next resumption asks for them again."""
        self.write_json("run.json", self._state | {"attempt": self.attempt + 1})

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        write_json(self.path / name, value)

    def write_text(self, name: str, text: str) -> None:
        write_whole(self.path / name, text)

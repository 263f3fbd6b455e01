"""`prefgen report DIR`: which job wrote a directory, and its page written anew from what is stored there.

Only what is needed for the directory at hand is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from prefgen.errors import InputError
from prefgen.files import read_json
from prefgen.run import RunDirectory

Kind: TypeAlias = Literal[
    "run", "training", "sweep", "calibration", "audit", "quickstart", "evaluation", "loop", "revision"
]
Reported: TypeAlias = tuple[dict[str, Any], str]
"""The JSON of a job's result, and the same in a few lines."""
_JOBS = "generate, pair, train, rlaif, evaluate, calibrate, audit, revise or quickstart"
_SHOWN = 5


def report_on(folder: Path) -> Reported:
    """Raises InputError for a directory that no job wrote, or that is not finished."""
    return _WRITE[kind_of(folder)](folder)


def kind_of(folder: Path) -> Kind:
    """Raises InputError for a directory that no job wrote."""
    for marks, kind in _BY_FILES.items():
        if all((folder / name).is_file() for name in marks):
            return kind
    if (folder / "manifest.json").is_file():
        command = read_json(folder / "manifest.json").get("command")
        if command in _BY_COMMAND:
            return _BY_COMMAND[command]
    if (folder / "evaluation.json").is_file():
        return "evaluation"
    if (folder / "config.yaml").is_file():
        return "run"
    raise _unknown(folder)


def _unknown(folder: Path) -> InputError:
    files = ", ".join(["manifest.json", "evaluation.json", *(marks[0] for marks in _BY_FILES)])
    looked_for = f"a finished job of {_JOBS}, with one of {files}"
    if not folder.exists():
        return InputError(folder, "no such directory", expected=looked_for)
    if not folder.is_dir():
        return InputError(folder, "a file, not a run directory", expected=looked_for)
    names = [path.name for path in islice(sorted(folder.iterdir()), _SHOWN + 1)]
    seen = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    return InputError(
        folder,
        "not a run directory, nor what another command wrote",
        seen=seen or "nothing in it",
        expected=looked_for,
    )


def _run(folder: Path) -> Reported:
    from pipelines.report.page import write_report
    from pipelines.summary import run_summary

    run = RunDirectory.open(folder)
    manifest = run.manifest
    manifest["found"] = write_report(run, manifest)
    return manifest, run_summary(folder, manifest)


def _training(folder: Path) -> Reported:
    from pipelines.train import report_training

    return report_training(folder)


def _sweep(folder: Path) -> Reported:
    from pipelines.sweep import RESULT, sweep_summary
    from pipelines.training_report.sweep import write_sweep_page

    result = read_json(folder / RESULT)
    write_sweep_page(folder, result)
    return result, sweep_summary(result, folder)


def _calibration(folder: Path) -> Reported:
    from pipelines.calibration.calibrate import report_calibration

    return report_calibration(folder)


def _audit(folder: Path) -> Reported:
    from pipelines.audit.audit import audit_summary
    from pipelines.audit.page import write_page

    found = read_json(folder / "audit.json")
    write_page(RunDirectory(folder), found)
    return found, audit_summary(folder, found)


def _quickstart(folder: Path) -> Reported:
    from pipelines.quickstart import load_results, quickstart_summary
    from pipelines.report.quickstart import write_quickstart_page

    results = load_results(folder)
    write_quickstart_page(folder, results)
    return results, quickstart_summary(results)


def _evaluation(folder: Path) -> Reported:
    from pipelines.evaluation.page import report_evaluation

    return report_evaluation(folder)


def _loop(folder: Path) -> Reported:
    from pipelines.rlaif.page import write_page
    from pipelines.rlaif.table import loop_summary

    manifest = read_json(folder / "manifest.json")
    write_page(RunDirectory(folder), manifest)
    return manifest, loop_summary(folder, manifest)


def _revision(folder: Path) -> Reported:
    from pipelines.report.revision import write_revision_page
    from pipelines.revise import revise_summary

    manifest = read_json(folder / "manifest.json")
    write_revision_page(RunDirectory(folder), manifest)
    return manifest, revise_summary(folder, manifest)


_BY_FILES: dict[tuple[str, ...], Kind] = {
    ("training.json",): "training",
    ("sweep.json",): "sweep",
    ("calibration.json",): "calibration",
    ("audit.json",): "audit",
    ("rubric.json", "evaluation.json", "judge.json", "run/manifest.json"): "quickstart",
}
_BY_COMMAND: dict[str, Kind] = {
    "generate": "run",
    "pair": "run",
    "evaluate": "evaluation",
    "rlaif": "loop",
    "revise": "revision",
}
_WRITE: dict[Kind, Callable[[Path], Reported]] = {
    "run": _run,
    "training": _training,
    "sweep": _sweep,
    "calibration": _calibration,
    "audit": _audit,
    "quickstart": _quickstart,
    "evaluation": _evaluation,
    "loop": _loop,
    "revision": _revision,
}

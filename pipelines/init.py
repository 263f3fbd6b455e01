"""`prefgen init`: a folder to begin in, a config for each of the three jobs, and a little to run it on."""

from __future__ import annotations

import shlex
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from prefgen.assets import asset
from prefgen.errors import RunDirectoryError, UsageError
from prefgen.files import write_whole

FILES = ("generate.yaml", "calibrate.yaml", "rlaif.yaml", "labels.jsonl")
SAMPLES = {"prompts.jsonl": 24, "heldout_prompts.jsonl": 8}
"""Of the embedded files, so many rows."""
POLICY = "tiny-policy"
COMMANDS = {
    "generate": "prefgen generate --config generate.yaml",
    "calibrate": "prefgen calibrate --config calibrate.yaml",
    "rlaif": "prefgen rlaif rlaif.yaml",
}


def init(directory: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes the files and returns what `--json` prints. Raises UsageError where it would write over one."""
    if directory.is_file():
        raise RunDirectoryError(f"{directory} is a file; DIR names a directory")
    if (directory / POLICY).is_symlink():
        raise RunDirectoryError(f"{directory / POLICY} is a link to another folder; move it away")
    names = [*FILES, *SAMPLES, POLICY]
    used = [name for name in names if (directory / name).exists()]
    if used and not overwrite:
        raise RunDirectoryError(
            f"{directory} holds {', '.join(used)} already; name another folder (prefgen init DIR), or add "
            "--overwrite to replace them"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write(directory)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written ({error.strerror})") from error
    return {"directory": str(directory), "files": names, "commands": COMMANDS}


def _write(directory: Path) -> None:
    for name in FILES:
        write_whole(directory / name, asset(f"init/{name}").read_text("utf-8"))
    for name, rows in SAMPLES.items():
        with asset(f"quickstart/{name}").open(encoding="utf-8") as file:
            write_whole(directory / name, "".join(islice(file, rows)))
    shutil.copytree(
        asset("quickstart/models/policy"), directory / POLICY, copy_function=_copy, dirs_exist_ok=True
    )


def _copy(source: str, target: str) -> None:
    """In the place of a link, not into the file that it leads to."""
    Path(target).unlink(missing_ok=True)
    shutil.copy2(source, target)


def init_summary(written: dict[str, Any]) -> str:
    where = written["directory"]
    enter = [] if where == "." else [f"  cd {shlex.quote(where)}"]
    lines = [f"wrote {', '.join(written['files'])} to {where}", "run them as they are, then edit them:"]
    return "\n".join([*lines, *enter, *(f"  {command}" for command in written["commands"].values())])

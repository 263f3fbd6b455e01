"""What prefgen finds on this machine: GPU, room on the disk, the ledger, keys."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipelines.doctor.check import Check, State
from prefgen.ledger import default_path
from prefgen.messages import Json

KEYS = {
    "OPENAI_API_KEY": "openai/",
    "ANTHROPIC_API_KEY": "anthropic/",
    "HF_TOKEN": "gated models of the Hugging Face hub",
}
LITTLE, TOO_LITTLE = 5e9, 5e8
"""Bytes of free disk below which a run may, and below which it will soon, end for want of room."""
LARGE_LEDGER = 2e9
_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def find_gpus() -> list[str]:
    """As the driver names them; none where there is no driver."""
    if shutil.which(_SMI[0]) is None:
        return []
    try:
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def check_gpus(gpus: list[str]) -> Check:
    if not gpus:
        return Check("GPU", "ok", "none found by nvidia-smi: models in this process run on the CPU")
    shown = "; ".join(gpus)
    try:
        import torch
    except ImportError:
        return Check("GPU", "ok", f"{shown}; torch is not installed")
    if torch.version.cuda is None:
        build = f"{shown}, but torch {torch.__version__} is built for the CPU and does not see it"
        return Check("GPU", "note", build, "pip install -r requirements/cuda.txt")
    if not torch.cuda.is_available():
        return Check(
            "GPU", "note", f"{shown}, but torch cannot use it", "compare the driver with torch's CUDA"
        )
    return Check("GPU", "ok", f"{shown}; torch {torch.__version__} sees {torch.cuda.device_count()}")


def check_keys() -> Check:
    """By name; no value is shown."""
    there = [name for name in KEYS if os.environ.get(name, "").strip()]
    away = [f"{name} ({use})" for name, use in KEYS.items() if name not in there]
    shown = [f"set: {', '.join(there) or 'none'}", *([f"not set: {', '.join(away)}"] if away else [])]
    return Check("keys", "ok", "; ".join(shown), None, {"set": [*there]})


def check_places(ledger: Path | None) -> Iterator[Check]:
    """Where runs, answers and models are written."""
    ledger = ledger or default_path()
    home = os.environ.get("HF_HOME")
    hub = Path(home) if home else Path.home() / ".cache" / "huggingface"
    yield _place("ledger", ledger.parent, "name another file with --ledger or PREFGEN_LEDGER", needed=True)
    yield _place("model cache", hub, "set HF_HOME to another place", needed=False)
    yield _place("this folder", Path.cwd(), "write runs elsewhere, with --out", needed=False)
    yield _whole(ledger)


def _place(name: str, folder: Path, elsewhere: str, *, needed: bool) -> Check:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    fault: State = "problem" if needed else "note"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check(f"{name} in {folder}", fault, f"cannot be written ({error.strerror})", elsewhere)
    free = shutil.disk_usage(there).free
    shown = f"{free / 1e9:.1f} GB free"
    details: dict[str, Json] = {"folder": str(folder), "free_bytes": free}
    if free < TOO_LITTLE:
        return Check(f"{name} in {folder}", fault, shown, f"free disk space, or {elsewhere}", details)
    if free < LITTLE:
        return Check(f"{name} in {folder}", "note", shown, f"free disk space, or {elsewhere}", details)
    return Check(f"{name} in {folder}", "ok", shown, None, details)


def _whole(path: Path) -> Check:
    if not path.is_file():
        return Check("ledger file", "ok", "none yet; the first run makes it")
    size = path.stat().st_size
    if size > LARGE_LEDGER:
        shown = f"{size / 1e9:.1f} GB, not read: prefgen ledger verify looks at every answer"
        return Check("ledger file", "ok", shown)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            faults = [text for (text,) in connection.execute("PRAGMA quick_check") if text != "ok"]
            (rows,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    except sqlite3.Error as error:
        faults, rows = [str(error)], 0
    if faults:
        return Check(
            "ledger file", "problem", f"{path} is damaged: {faults[0]}", "prefgen ledger verify tells more"
        )
    return Check(
        "ledger file", "ok", f"whole, {rows:,} answers, {size / 1e6:.1f} MB", None, {"answers": rows}
    )

"""What a ledger holds: in figures, and row by row."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pipelines.ledger.config import ExportConfig, LedgerConfig, moment
from prefgen.errors import GateError, InputError, UsageError
from prefgen.ledger import Ledger, Paid, default_path
from prefgen.messages import Json

_PAGE = 1000
_NOTES = 20


@dataclass(frozen=True, slots=True)
class Stored:
    """One row as it lies in the file."""

    row: int
    key: bytes
    value: bytes
    model: str
    created: str


@contextmanager
def existing(config: LedgerConfig) -> Iterator[Ledger]:
    """Opens a ledger that is there. Raises InputError where there is none, LedgerError as `Ledger`."""
    path = config.ledger or default_path()
    if not path.is_file():
        raise InputError(
            path, "no ledger there", expected="the file that runs wrote to", fix="name it with --ledger"
        )
    with Ledger(path) as ledger:
        yield ledger


def condition(ledger: Ledger, models: Sequence[str], created: str, when: str | None) -> tuple[str, list[str]]:
    """WHERE and its values: of these models, and `created` (an operator) `when`. Raises UsageError where the
    ledger holds nothing of a model."""
    parts, values = list[str](), list[str]()
    if models:
        known = {name for (name,) in ledger.read("SELECT DISTINCT model FROM answers")}
        for model in models:
            if model not in known:
                raise UsageError(f"--model {model!r}: none of its answers are here; {_named(known)}")
        parts.append(f"model IN ({', '.join('?' * len(models))})")
        values += models
    if when is not None:
        parts.append(f"created {created} ?")
        values.append(when)
    return " AND ".join(parts) or "1", values


def _named(known: set[str]) -> str:
    return "the ledger holds " + (", ".join(sorted(known)[:_NOTES]) or "no answers")


def stored(ledger: Ledger, where: str = "1", values: Sequence[str] = ()) -> Iterator[Stored]:
    """The rows in the order of their writing, a page in memory at a time; each page is a reading of its own,
    so that a run may go on writing."""
    last = 0
    query = (
        f"SELECT rowid, key, value, model, created FROM answers WHERE rowid > ? AND {where} "
        f"ORDER BY rowid LIMIT {_PAGE}"
    )
    while page := ledger.read(query, last, *values):
        yield from (Stored(*row) for row in page)
        last = page[-1][0]


def stats(config: LedgerConfig) -> dict[str, Any]:
    """Rows, bytes and age by model, and what each run paid."""
    with existing(config) as ledger:
        models = [
            {"model": model, "rows": rows, "bytes": size, "oldest": oldest, "newest": newest}
            for model, rows, size, oldest, newest in ledger.read(
                "SELECT model, count(*), sum(length(value)), min(created), max(created) FROM answers "
                "GROUP BY model ORDER BY count(*) DESC, model"
            )
        ]
        paid = [asdict(Paid(*row)) for row in ledger.read("SELECT * FROM spending ORDER BY run, model")]
        return {
            "path": str(ledger.path),
            "version": ledger.read("PRAGMA user_version")[0][0],
            "rows": sum(item["rows"] for item in models),
            "bytes_on_disk": size_on_disk(ledger.path),
            "oldest": min((item["oldest"] for item in models), default=None),
            "newest": max((item["newest"] for item in models), default=None),
            "models": models,
            "spending": paid,
        }


def size_on_disk(path: Path) -> int:
    """Bytes of the file and of what SQLite keeps beside it."""
    parts = (path, path.with_name(path.name + "-wal"))
    return sum(part.stat().st_size for part in parts if part.is_file())


def stats_summary(found: dict[str, Any]) -> str:
    lines = [f"{found['path']}: {found['rows']} answers, {found['bytes_on_disk'] / 1e6:.1f} MB"]
    lines += [
        f"  {item['model']}: {item['rows']} answers, {item['bytes'] / 1e6:.1f} MB, "
        f"{item['oldest']} to {item['newest']} UTC"
        for item in found["models"]
    ]
    for paid in found["spending"]:
        cost = "cost unknown" if paid["cost_usd"] is None else f"${paid['cost_usd']:.4f}"
        lines.append(
            f"  run {paid['run']}, {paid['model']}: {paid['requests']} requests, {cost}; tokens: "
            f"{paid['input_tokens']} in ({paid['cached_tokens']} cached), {paid['output_tokens']} out"
        )
    return "\n".join(lines)


def export(config: ExportConfig, *, as_json: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Writes one JSON object an answer, in the order of their storing. Raises GateError at the end where
    some were broken."""
    if config.out is None and as_json:
        raise UsageError("--json prints one object and the answers would be between: name a file with --out")
    if config.out is not None and config.out.exists() and not overwrite:
        raise UsageError(f"{config.out} exists; add --overwrite to replace it, or name another --out")
    written, broken = 0, 0
    with existing(config) as ledger:
        where, values = condition(ledger, config.model, ">=", moment(config.since, "--since"))
        with _lines(config.out) as out:
            for row in stored(ledger, where, values):
                try:
                    value = ledger.unpack(row.value)
                except ValueError:
                    broken += 1
                    continue
                line: Json = {
                    "key": row.key.hex(),
                    "model": row.model,
                    "created": row.created,
                    "value": value,
                }
                # ASCII: what models write may hold codes that a terminal would obey.
                out.write(json.dumps(_strict(line), allow_nan=False) + "\n")
                written += 1
    if broken:
        raise GateError(
            f"{ledger.path}: {broken} answers are broken and were left out, {written} were exported\n"
            "  fix: prefgen ledger verify --repair removes them, so that they are asked for again"
        )
    return {"path": str(ledger.path), "out": str(config.out) if config.out else None, "rows": written}


@contextmanager
def _lines(path: Path | None) -> Iterator[IO[str]]:
    """A file that appears when it is whole, or standard output."""
    if path is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read has enough. Python would flush once more at its end and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as out:
            yield out
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name another --out") from error
    finally:
        part.unlink(missing_ok=True)


def _strict(value: Json) -> Json:
    """JSON has no infinities: an impossible word's log-probability becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list) else value

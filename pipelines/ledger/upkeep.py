"""What keeps a ledger small and whole: old answers removed, broken ones found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, TypeAdapter, ValidationError

from pipelines.ledger.config import PruneConfig, VerifyConfig, moment
from pipelines.ledger.reading import condition, existing, size_on_disk, stored
from prefgen.completion import FinishReason
from prefgen.errors import GateError
from prefgen.ledger import Ledger, LedgerError

_CHUNK = 10_000
_SHOWN = 20


class _Answer(BaseModel):
    """What `prefgen.recorded` stores of a completion."""

    model_config = ConfigDict(strict=True)

    text: str
    finish_reason: FinishReason
    label_logprobs: dict[str, float] | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    served: str


class _Score(BaseModel):
    model_config = ConfigDict(strict=True)

    score: FiniteFloat


_KINDS: TypeAdapter[_Answer | _Score] = TypeAdapter(_Answer | _Score)


def prune(config: PruneConfig) -> dict[str, Any]:
    """Removes answers by age and model and gives the room back to the disk. What runs paid stays on record.

    Raises LedgerError while another process has the ledger open: a run that goes on would not find again
    what it has stored, and shrinking the file holds up every writer.
    """
    with existing(config) as ledger:
        where, values = condition(ledger, config.model, "<", moment(config.older_than, "--older-than"))
        rows, size = ledger.read(
            f"SELECT count(*), coalesce(sum(length(value)), 0) FROM answers WHERE {where}", *values
        )[0]
        before = size_on_disk(ledger.path)
    found = {"path": str(ledger.path), "rows": rows, "bytes": size, "dry_run": config.dry_run}
    if config.dry_run or not rows:
        return found | {"bytes_on_disk": before}
    with _alone(ledger.path) as connection:
        while _remove(connection, where, values):
            pass
        _shrink(connection, ledger.path, rows)
    return found | {"bytes_on_disk": size_on_disk(ledger.path)}


@contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """The file with no other process in it, and none let in meanwhile."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise LedgerError(
                f"{path}: in use by another process ({error}); prune it when no run is under way"
            ) from error
        yield connection


def _remove(connection: sqlite3.Connection, where: str, values: list[str]) -> int:
    query = f"DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers WHERE {where} LIMIT {_CHUNK})"
    return connection.execute(query, values).rowcount


def _shrink(connection: sqlite3.Connection, path: Path, rows: int) -> None:
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise LedgerError(
            f"{path}: {rows} answers were removed, but the file could not be made smaller ({error}); "
            "later answers will use the room; shrinking takes as much free disk space again as the file holds"
        ) from error


def prune_summary(found: dict[str, Any]) -> str:
    done = "would be removed" if found["dry_run"] else "removed"
    return (
        f"{found['path']}: {found['rows']} answers of {found['bytes'] / 1e6:.1f} MB {done}; "
        f"the file takes {found['bytes_on_disk'] / 1e6:.1f} MB"
    )


def verify(config: VerifyConfig) -> dict[str, Any]:
    """Looks at the file and at every answer in it.

    Raises GateError naming the broken answers; with `repair` these are removed instead. The question is not
    stored, so that a whole answer to another question would not be noticed.
    """
    with existing(config) as ledger:
        damage = _damage(ledger)
        if damage:
            raise GateError(
                f"{ledger.path}: the file is damaged: {'; '.join(damage[:_SHOWN])}\n"
                "  fix: stop what uses it; `prefgen ledger export` saves what can be read, "
                "`sqlite3 FILE .recover` more; then start with another --ledger"
            )
        rows, broken = 0, dict[int, tuple[str, str]]()
        for row in stored(ledger):
            rows += 1
            fault = _fault(ledger, row.key, row.value)
            if fault is not None:
                broken[row.row] = row.key.hex(), fault
    if broken and config.repair:
        _forget(ledger.path, list(broken))
    elif broken:
        shown = "\n".join(f"  {key}: {fault}" for key, fault in list(broken.values())[:_SHOWN])
        more = f"\n  and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise GateError(
            f"{ledger.path}: {len(broken)} of {rows} answers are broken\n{shown}{more}\n"
            "  fix: --repair removes them, so that they are asked for again"
        )
    keys = [key for key, _ in broken.values()]
    return {"path": str(ledger.path), "rows": rows, "broken": keys, "removed": len(keys)}


def _damage(ledger: Ledger) -> list[str]:
    try:
        return [text for (text,) in ledger.read("PRAGMA integrity_check") if text != "ok"]
    except LedgerError as error:
        return [str(error.__cause__)]


def _fault(ledger: Ledger, key: object, value: object) -> str | None:
    """What is wrong with a row; None where it is whole."""
    if not isinstance(key, bytes) or len(key) != 32:
        return "the key is no SHA-256"
    if not isinstance(value, bytes):
        return "the value is no bytes"
    try:
        _KINDS.validate_python(ledger.unpack(value))
    except ValidationError as error:
        first = error.errors()[0]
        return f"neither an answer nor a score: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        return f"cannot be read: {error}"
    return None


def _forget(path: Path, rows: list[int]) -> None:
    with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        connection.executemany("DELETE FROM answers WHERE rowid = ?", ((row,) for row in rows))


def verify_summary(found: dict[str, Any]) -> str:
    removed = f"; {found['removed']} broken ones removed" if found["removed"] else ""
    return f"{found['path']}: {found['rows']} answers looked at, the file is whole{removed}"

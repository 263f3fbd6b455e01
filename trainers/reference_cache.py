"""Log-probabilities of responses under a starting model, kept on disk under the hash of all they depend on.

One SQLite file in WAL mode, shared by all runs and by several processes: a second run on the same pairs, with
another seed, β or learning rate, computes none of them again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefgen.errors import UsageError
from prefgen.messages import Json, canonical

SCHEMA_VERSION = 1
_SCHEMA = "CREATE TABLE IF NOT EXISTS log_probs (key BLOB PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID"
_VARIABLES = 500
"""Parameters of one statement."""


def default_path() -> Path:
    """`$PREFGEN_REFERENCE_CACHE`, else `prefgen/reference.sqlite` in the user's cache directory."""
    given = os.environ.get("PREFGEN_REFERENCE_CACHE")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "prefgen" / "reference.sqlite"


def cache_key(model: Mapping[str, Json], prompt: Sequence[int], completion: Sequence[int]) -> bytes:
    """32 bytes. `model`: hash of its weights and what else changes the number, such as the precision."""
    digest = hashlib.sha256(canonical(dict(model)))
    for ids in (prompt, completion):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(array("q", ids).tobytes())
    return digest.digest()


class ReferenceCache:
    """Raises UsageError where the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=60)
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        try:
            self._prepare()
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def close(self) -> None:
        self._connection.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """The numbers known, by key; keys that are not known are absent."""
        found: dict[bytes, float] = {}
        try:
            for start in range(0, len(keys), _VARIABLES):
                some = keys[start : start + _VARIABLES]
                places = ",".join("?" * len(some))
                query = f"SELECT key, value FROM log_probs WHERE key IN ({places})"
                found.update(self._connection.execute(query, list(some)).fetchall())
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return found

    def put(self, values: Mapping[bytes, float]) -> None:
        """Stores numbers and returns when they are on disk; a key that has one already keeps it."""
        try:
            with self._connection:
                self._connection.executemany("INSERT OR IGNORE INTO log_probs VALUES (?, ?)", values.items())
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"{self.path}: a reference cache of version {version}, this prefgen reads up to "
                f"{SCHEMA_VERSION}; upgrade prefgen, or name another file with --reference-cache"
            )
        with self._connection:
            self._connection.execute(_SCHEMA)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _failed(self, error: BaseException) -> UsageError:
        return UsageError(
            f"{self.path}: the reference cache cannot be used ({error}); free disk space, check its "
            "permissions, or name another file with --reference-cache"
        )
